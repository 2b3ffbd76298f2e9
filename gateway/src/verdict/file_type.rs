//! File types as rules name them: the type itself (`pdf`), and the kind it is of (`document`).

use smallvec::SmallVec;

use super::held::Held;
use crate::event::{App, Text};

/// Types of one exchange's files.
pub(super) type Types<'f> = SmallVec<[&'f str; 2]>;

/// Kinds, and the endings of names that are of them. The ending is the type.
const KINDS: [(&str, &[&str]); 12] = [
    (
        "source-code",
        &[
            "asm", "bas", "bat", "c", "cc", "clj", "cpp", "cs", "css", "cxx", "dart", "erl", "ex",
            "exs", "f90", "fs", "go", "groovy", "h", "hpp", "hs", "ipynb", "java", "jl", "js",
            "jsx", "kt", "kts", "lua", "m", "mjs", "ml", "mm", "pas", "php", "pl", "pm", "ps1",
            "py", "r", "rb", "rs", "scala", "sh", "sol", "sql", "swift", "tf", "ts", "tsx", "v",
            "vb", "vhdl", "vue", "zig",
        ],
    ),
    (
        "document",
        &["doc", "docm", "docx", "epub", "md", "odt", "pages", "pdf", "rtf", "tex", "txt"],
    ),
    ("spreadsheet", &["csv", "numbers", "ods", "tsv", "xls", "xlsb", "xlsm", "xlsx"]),
    ("presentation", &["key", "odp", "pps", "ppsx", "ppt", "pptm", "pptx"]),
    (
        "archive",
        &[
            "7z", "ar", "bz2", "cab", "gz", "iso", "lz", "lz4", "rar", "tar", "tgz", "xz", "zip",
            "zst",
        ],
    ),
    (
        "executable",
        &[
            "apk", "app", "appimage", "bat", "class", "cmd", "com", "deb", "dll", "dmg", "elf",
            "exe", "hta", "jar", "jse", "mach", "msi", "msix", "pkg", "ps1", "rpm", "scr", "so",
            "vbs", "wasm",
        ],
    ),
    (
        "image",
        &[
            "avif", "bmp", "gif", "heic", "ico", "jpeg", "jpg", "png", "psd", "svg", "tif", "tiff",
            "webp",
        ],
    ),
    ("audio", &["aac", "aiff", "flac", "m4a", "mid", "mp3", "ogg", "opus", "wav", "wma"]),
    ("video", &["avi", "flv", "m4v", "mkv", "mov", "mp4", "mpg", "webm", "wmv"]),
    ("key-material", &["asc", "cer", "crt", "der", "jks", "kdbx", "p12", "pem", "pfx", "ppk"]),
    ("database", &["accdb", "db", "dump", "mdb", "parquet", "sqlite", "sqlite3"]),
    ("design", &["ai", "dwg", "dxf", "fig", "indd", "sketch", "step", "stl", "xd"]),
];

/// Media types that say what a name does not.
const MEDIA: [(&str, &str); 14] = [
    ("application/pdf", "pdf"),
    ("application/zip", "zip"),
    ("application/gzip", "gz"),
    ("application/x-7z-compressed", "7z"),
    ("application/vnd.rar", "rar"),
    ("application/msword", "doc"),
    ("application/vnd.ms-excel", "xls"),
    ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", "docx"),
    ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx"),
    ("application/vnd.openxmlformats-officedocument.presentationml.presentation", "pptx"),
    ("application/x-msdownload", "exe"),
    ("application/vnd.android.package-archive", "apk"),
    ("application/java-archive", "jar"),
    ("text/csv", "csv"),
];

/// What content shows itself to be by its first bytes, whatever its name says.
pub(super) fn of_content(bytes: &[u8]) -> Option<&'static str> {
    infer::get(bytes).map(|found| found.extension())
}

/// By content, names and media type: each may be right, so a rule that names any of them matches.
pub(super) fn all<'f>(
    content: Option<&'f str>,
    names: &[&str],
    content_type: Option<&str>,
) -> Types<'f> {
    let mut types = Types::new();
    if let Some(content) = content {
        add(&mut types, content);
    }
    for name in names {
        known(name, &mut types);
    }
    if types.is_empty() {
        by_media(content_type, &mut types);
    }
    types
}

/// By a name, else by the media type.
pub(super) fn by_name<'f>(name: Option<&str>, content_type: Option<&str>) -> Types<'f> {
    let mut types = Types::new();
    if let Some(name) = name {
        known(name, &mut types);
    }
    by_media(content_type, &mut types);
    types
}

/// Of a recorded exchange: what the rules of its day could have asked for. `down`: the file came with
/// the response.
#[must_use]
pub fn recorded<'f>(
    file_type: Option<&'f str>,
    name: Option<&str>,
    content_type: Option<&str>,
    down: bool,
) -> SmallVec<[&'f str; 2]> {
    if down { by_name(name, content_type) } else { all(file_type, name.as_slice(), content_type) }
}

/// What a record says of a held body's file, of which its app said this: its name and its type.
#[must_use]
pub fn held_file(
    held: &Held,
    app: &App,
    content_type: Option<&str>,
) -> (Option<Text>, Option<Text>) {
    let uploads = app.activity.as_ref().is_some_and(|it| it.as_str() == "upload");
    let object = app.object.as_ref().filter(|_| uploads);
    let object = object.and_then(|it| it.as_str().rsplit(['/', '\\']).next());
    let mut names: SmallVec<[&str; 4]> = held.file_names.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(object.filter(|name| !name.is_empty()));
    }
    let types = all(held.file_type.as_deref(), &names, content_type);
    (names.first().map(|it| Text::copied(it)), types.first().map(|it| Text::copied(it)))
}

/// The type of a file whose content nobody looked at: by its name, else by its media type.
#[must_use]
pub fn named(name: Option<&str>, content_type: Option<&str>) -> Option<Text> {
    by_name(name, content_type).first().map(|it| Text::copied(it))
}

fn by_media(content_type: Option<&str>, types: &mut Types<'_>) {
    let media = content_type.and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    if let Some((_, found)) = MEDIA.iter().find(|(known, _)| known.eq_ignore_ascii_case(media)) {
        add(types, found);
    }
}

/// The type that a name ends in, if it is one.
fn known(name: &str, types: &mut Types<'_>) {
    let Some((_, ending)) = name.rsplit_once('.') else { return };
    let all = KINDS.iter().flat_map(|(_, endings)| endings.iter());
    if let Some(found) = all.into_iter().find(|known| known.eq_ignore_ascii_case(ending)) {
        add(types, found);
    }
}

/// Adds a type and the kinds it is of.
fn add<'f>(types: &mut Types<'f>, found: &'f str) {
    if !types.contains(&found) {
        types.push(found);
    }
    for (kind, endings) in KINDS {
        if endings.contains(&found) && !types.contains(&kind) {
            types.push(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_told_by_content_name_and_media_type() {
        let types = all(of_content(b"%PDF-1.7\n"), &["notes.txt"], None);
        assert_eq!(types.as_slice(), ["pdf", "document", "txt"]);
        assert_eq!(all(None, &["Main.RS"], None).as_slice(), ["rs", "source-code"]);
        assert_eq!(all(None, &["no ending"], None).as_slice(), [""; 0]);
        let types = by_name(None, Some("Application/PDF; version=1"));
        assert_eq!(types.as_slice(), ["pdf", "document"]);
        assert_eq!(of_content(b"MZ\x90\x00"), Some("exe"));
        assert_eq!(of_content(b"hello"), None);
    }
}
