//! A body that is held back, whole, until it has been judged.

use bytes::Bytes;
use gateway_proto::multipart;
use policy::fact::Unobtainable;

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

impl Held {
    /// Reads a whole body of this Content-Type (empty where there is none).
    ///
    /// # Errors
    /// Where it is malformed: the origin may read it otherwise, so nothing in it may be believed.
    pub fn of(content_type: &[u8], bytes: Bytes) -> Result<Self, Unobtainable> {
        let parts = multipart::parts(content_type, &bytes).map_err(|_| Unobtainable::Unreadable)?;
        let Some(parts) = parts else {
            let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            return Ok(Self { file_size: Some(size), bytes, ..Self::default() });
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
