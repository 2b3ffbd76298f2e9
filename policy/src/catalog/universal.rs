//! What any request does, whatever the app: told by method, media type and the path's last words.

use std::borrow::Cow;

use super::Operation;
use super::body::Reading;
use super::extract::{Item, Seen, Source};
use super::text;

/// Last path segments at which credentials are sent.
const LOGIN_WORDS: &[&str] = &[
    "login",
    "log-in",
    "log_in",
    "signin",
    "sign-in",
    "sign_in",
    "logon",
    "authenticate",
    "login.php",
    "login.aspx",
    "login.jsp",
    "wp-login.php",
    "signin.aspx",
];

/// The same, of more than one segment.
const LOGIN_PATHS: &[&str] =
    &["/oauth/token", "/oauth2/token", "/oauth2/v2.0/token", "/auth/login", "/users/sign_in"];

const LOGOUT_WORDS: &[&str] =
    &["logout", "log-out", "log_out", "signout", "sign-out", "sign_out", "logoff"];

/// Where login forms put the user's name.
const USER_FIELDS: &[&str] = &["username", "email", "login", "user", "log"];

/// What a path must end in to be taken for a file that is fetched to be kept.
const FILE_EXTENSIONS: &[&str] = &[
    "7z", "apk", "appimage", "bin", "bz2", "cab", "csv", "deb", "dmg", "doc", "docm", "docx",
    "exe", "gz", "img", "iso", "jar", "msi", "msix", "odp", "ods", "odt", "pdf", "pkg", "ppt",
    "pptm", "pptx", "ps1", "rar", "rpm", "rtf", "sh", "tar", "tgz", "vhd", "vhdx", "vmdk", "whl",
    "xls", "xlsb", "xlsm", "xlsx", "xz", "zip", "zst",
];

/// The operation, and whether the body could still change it.
pub(super) fn operation<'a>(seen: &Seen<'_, 'a>) -> (Operation<'a>, bool) {
    let path = seen.request.path;
    let last = text::last_segment(path.strip_suffix('/').unwrap_or(path));
    let named = |list: &[&str]| list.iter().any(|word| word.eq_ignore_ascii_case(last));
    match seen.request.method {
        "GET" | "POST" if named(LOGOUT_WORDS) => plain("logout"),
        "GET" if is_file(last) => file("download", last),
        "GET" | "HEAD" | "OPTIONS" | "PROPFIND" | "REPORT" => plain("browse"),
        "DELETE" => plain("delete"),
        "MOVE" => plain("move"),
        "COPY" => plain("copy"),
        "MKCOL" => plain("create"),
        "POST" | "PUT" | "PATCH" => with_body(seen, last, is_login(last)),
        _ => plain("browse"),
    }
}

/// Whether credentials are sent to a path that ends so.
pub(super) fn is_login(last: &str) -> bool {
    LOGIN_WORDS.iter().any(|word| word.eq_ignore_ascii_case(last))
}

/// Whether a name ends like a file that is fetched to be kept.
pub(super) fn is_file(name: &str) -> bool {
    text::extension(name).is_some_and(|extension| {
        FILE_EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
    })
}

/// Whether a media type is one of content rather than of messages between programs.
pub(super) fn is_content(media: &str) -> bool {
    const CONTENT: &[&str] = &[
        "application/octet-stream",
        "binary/octet-stream",
        "application/pdf",
        "application/zip",
        "application/gzip",
        "application/x-gzip",
        "application/x-tar",
        "application/x-7z-compressed",
        "application/x-rar-compressed",
        "application/vnd.rar",
        "application/java-archive",
        "application/x-msdownload",
        "application/x-msdos-program",
        "application/msword",
        "application/rtf",
        "application/x-apple-diskimage",
        "application/offset+octet-stream",
        "application/x-zip-compressed",
        "application/vnd.android.package-archive",
    ];
    let starts = |prefix: &str| text::strip_prefix(media, prefix).is_some();
    ["image/", "video/", "audio/", "application/vnd.openxmlformats-", "application/vnd.ms-"]
        .into_iter()
        .chain(["application/vnd.oasis.opendocument."])
        .any(starts)
        || CONTENT.iter().any(|known| known.eq_ignore_ascii_case(media))
}

fn plain<'a>(activity: &'static str) -> (Operation<'a>, bool) {
    (Operation { activity, ..Operation::default() }, false)
}

fn file<'a>(activity: &'static str, name: &'a str) -> (Operation<'a>, bool) {
    let object = (!name.is_empty()).then_some(Cow::Borrowed(name));
    let object_type = Some(Cow::Borrowed("file"));
    (Operation { activity, object, object_type, ..Operation::default() }, false)
}

fn with_body<'a>(seen: &Seen<'_, 'a>, last: &'a str, login: bool) -> (Operation<'a>, bool) {
    let media = text::essence(seen.header("content-type").unwrap_or_default());
    let is = |known: &str| media.eq_ignore_ascii_case(known);
    let form = is("application/x-www-form-urlencoded");
    if seen.request.method == "POST"
        && (login || LOGIN_PATHS.iter().any(|path| seen.request.path.ends_with(path)))
        && (form || is("application/json") || is("multipart/form-data"))
    {
        return self::login(seen);
    }
    if is("multipart/form-data") || is("multipart/mixed") || is("multipart/related") {
        return multipart(seen);
    }
    let stored = seen.request.method == "PUT" && text::extension(last).is_some();
    let spoken = form || is("application/json") || text::strip_suffix(media, "+json").is_some();
    if is_content(media) || (stored && !spoken) {
        let named = Source::File.read(seen, Item::None).values.into_iter().next();
        let (mut operation, _) = file("upload", last);
        operation.object = named.or(operation.object);
        return (operation, false);
    }
    plain("form_post")
}

fn login<'a>(seen: &Seen<'_, 'a>) -> (Operation<'a>, bool) {
    let (mut operation, mut undecided) = plain("login");
    for name in USER_FIELDS {
        let reading: Reading<'a> = seen.body().field(name);
        undecided |= reading.undecided;
        operation.from_user = reading.values.into_iter().find(|user| !user.is_empty());
        if undecided || operation.from_user.is_some() {
            break;
        }
    }
    (operation, undecided)
}

fn multipart<'a>(seen: &Seen<'_, 'a>) -> (Operation<'a>, bool) {
    let reading = seen.body().file_name();
    let Some(name) = reading.values.into_iter().next() else {
        let (operation, _) = plain("form_post");
        return (operation, reading.undecided);
    };
    let (mut operation, undecided) = file("upload", "");
    operation.object = Some(name);
    (operation, undecided)
}
