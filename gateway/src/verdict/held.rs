//! A body that is held back, whole, until it has been judged.

use bytes::Bytes;
use gateway_proto::multipart;
use policy::catalog::Operation;
use policy::fact::Unobtainable;
use smallvec::SmallVec;

use super::file_type;

/// What a whole body says of the files it carries.
#[derive(Debug, Default)]
pub struct Held {
    pub bytes: Bytes,
    /// Of every file in it, as either spelling gives it.
    pub file_names: Vec<String>,
    pub file_type: Option<String>,
    /// Of the largest file, bytes.
    pub file_size: Option<u64>,
}

/// What a held body said, without its bytes: they need not be kept until the response comes.
#[derive(Debug)]
pub struct Settled {
    pub(super) held: Held,
    pub(super) instance: Option<String>,
    pub(super) operations: SmallVec<[Operation<'static>; 1]>,
}

impl Held {
    /// The same files, without the bytes.
    pub(super) fn without_bytes(&self) -> Self {
        Self {
            bytes: Bytes::new(),
            file_names: self.file_names.clone(),
            file_type: self.file_type.clone(),
            file_size: self.file_size,
        }
    }

    /// Reads a whole body of this Content-Type (empty where there is none).
    ///
    /// # Errors
    /// Where it is malformed: the origin may read it otherwise, so nothing in it may be believed.
    pub fn of(content_type: &[u8], bytes: Bytes) -> Result<Self, Unobtainable> {
        let parts = multipart::parts(content_type, &bytes).map_err(|_| Unobtainable::Unreadable)?;
        let Some(parts) = parts else {
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let file_type = file_type::of_content(&bytes).map(ToOwned::to_owned);
            return Ok(Self { file_size: Some(size), bytes, file_type, ..Self::default() });
        };
        let files: Vec<_> = parts.into_iter().filter(multipart::Part::is_file).collect();
        let file_size = files.iter().map(|file| file.bytes).max();
        let file_names = files
            .into_iter()
            .flat_map(|file| [file.file_name, file.extended_file_name])
            .flatten()
            .collect();
        Ok(Self { bytes, file_names, file_type: None, file_size })
    }
}
