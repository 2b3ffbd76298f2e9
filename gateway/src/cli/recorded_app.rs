//! What the catalog knows beside a record: all categories of an app, and whether the activity
//! was told without a body that would have told more.

use gateway_proto::target::canonical_path;
use policy::catalog::{Catalog, RequestView};
use smallvec::{SmallVec, smallvec};

use super::recorded::Recorded;
use crate::verdict::question;

/// The app's categories: all of them where the record says so, else by the first.
pub(super) fn categories<'f>(
    recorded: &'f Recorded<'_>,
    catalog: &'f Catalog,
) -> SmallVec<[&'f str; 4]> {
    if !recorded.categories.is_empty() {
        return recorded.categories.iter().map(|category| &**category).collect();
    }
    let first = recorded.category.as_deref().unwrap_or("unknown");
    let app = recorded.app.as_deref().and_then(|app| catalog.app(app));
    let all = app.map(|app| app.site.categories).filter(|all| all.first() == Some(&first));
    all.map_or_else(|| smallvec![first], SmallVec::from_slice)
}

/// Whether the body would have told more of activity and accounts, and nobody looked into it.
pub(super) fn body_unread(recorded: &Recorded<'_>, catalog: &Catalog) -> bool {
    // Every body that was held left its size, save a form without files.
    if !recorded.has_body() || recorded.file_size.is_some() {
        return false;
    }
    let (Some(url), method) = (recorded.url.as_deref(), recorded.method.as_deref()) else {
        return false;
    };
    let content_type = recorded.content_type.as_deref();
    let headers: Vec<_> =
        content_type.map(|it| ("Content-Type".to_owned(), it.to_owned())).into_iter().collect();
    let Ok(request) = question::request(url, method, &headers, None) else { return false };
    let (path, query) = request.target().split_once('?').unwrap_or_else(|| (request.target(), ""));
    let path = canonical_path(path.as_bytes());
    let host = request.host.text();
    let header = |name: &str| request.fields.text(name);
    let guess = catalog.classify(&RequestView {
        method: request.method(),
        host: &host,
        path: path.as_str(),
        query,
        header: &header,
        body: None,
    });
    let told = guess.operations.first().map(|operation| operation.activity);
    let same = told == recorded.activity.as_deref();
    guess.wants_body && same && recorded.from_user.is_none() && recorded.to_user.is_none()
}
