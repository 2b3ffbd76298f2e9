//! What a response's head adds: a file that arrives is a download, a refused login a failed one.

use std::borrow::Cow;

use super::Operation;
use super::text;
use super::universal;

/// What of a response is looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResponseView<'a> {
    pub status: u16,
    pub content_type: Option<&'a str>,
    pub content_disposition: Option<&'a str>,
    /// Where it redirects to.
    pub location: Option<&'a str>,
    /// The request's path, which names what is fetched where the response does not.
    pub path: &'a str,
}

pub(super) fn refine<'a>(activity: &str, response: &ResponseView<'a>) -> Option<Operation<'a>> {
    match (activity, response.status) {
        ("login", 400 | 401 | 403 | 422 | 423 | 429) => Some(login_failed()),
        ("login", 300..=399) if response.location.is_some_and(tells_failure) => {
            Some(login_failed())
        }
        ("browse" | "view" | "form_post", 200..=299) => download(response),
        _ => None,
    }
}

fn login_failed<'a>() -> Operation<'a> {
    Operation { activity: "login_failed", ..Operation::default() }
}

/// Whether a redirect says that a sign-in failed: by `error`, as OAuth does (RFC 6749 section 4.1.2.1),
/// or back to the form with a key that speaks of it (`/login?error`, `/signin?loginFailed=1`).
fn tells_failure(location: &str) -> bool {
    let (path, rest) = location.split_once('?').unwrap_or((location, ""));
    let query = rest.split('#').next().unwrap_or_default();
    let form = universal::is_login(text::last_segment(path.strip_suffix('/').unwrap_or(path)));
    query.split('&').any(|pair| {
        let key = pair.split('=').next().unwrap_or_default();
        let speaks = |word| text::find_ignore_case(key, word).is_some();
        key == "error" || (form && (speaks("error") || speaks("fail")))
    })
}

fn download<'a>(response: &ResponseView<'a>) -> Option<Operation<'a>> {
    let disposition = response.content_disposition.unwrap_or_default();
    let attached = text::essence(disposition).eq_ignore_ascii_case("attachment");
    let media = text::essence(response.content_type.unwrap_or_default());
    if !attached && !is_kept(media) {
        return None;
    }
    let name = text::parameter(disposition, "filename").filter(|name| !name.is_empty());
    let last = text::last_segment(response.path);
    let object = name.or_else(|| (!last.is_empty()).then_some(Cow::Borrowed(last)));
    Some(Operation {
        activity: "download",
        object,
        object_type: Some(Cow::Borrowed("file")),
        ..Operation::default()
    })
}

/// Content a page does not consist of: pictures, sound and video are part of browsing.
fn is_kept(media: &str) -> bool {
    let part_of_page = ["image/", "video/", "audio/"];
    universal::is_content(media)
        && !part_of_page.into_iter().any(|prefix| text::strip_prefix(media, prefix).is_some())
}
