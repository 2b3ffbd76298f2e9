//! Requests to sites that are no app of the catalog: whatever they look like, they get no app, and
//! the generic activity that they are. At most 0.5 % may be labelled wrongly; the count is printed.

use super::examples::{Request, builtin_catalog};

/// Of a thousand requests, this many may be labelled wrongly.
const WRONG_PER_MILLE_MAX: usize = 5;

/// Requests that the corpus has at least.
const REQUESTS_MIN: usize = 5_000;

/// Sites as they are named, apps' words among them: each only resembles.
const SITES: [&str; 48] = [
    "www.riverside-bakery.example",
    "shop.garden-tools.example",
    "drive-in-cinema.example",
    "boxoffice.city-theatre.example",
    "dropbox-alternatives.example",
    "slackline-club.example",
    "teams.soccer-league.example",
    "outlook.mountain-weather.example",
    "notion-of-time.example",
    "zoom-lenses.photo.example",
    "figma-tiles.example",
    "github-stars.statistics.example",
    "claude-monet.museum.example",
    "gemini-horoscope.example",
    "asana-yoga.example",
    "canva-s.sailing.example",
    "trello-gelato.example",
    "mega-store.example",
    "signal-tower.radio.example",
    "discord-in-harmony.example",
    "box.pizza.example",
    "my.insurance.example",
    "intranet.factory.example",
    "portal.university-hospital.example",
    "api.weather-station.example",
    "api.parcel-tracking.example",
    "cdn.image-host.example",
    "static.newspaper.example",
    "assets.webshop.example",
    "metrics.self-hosted.example",
    "sso.municipality.example",
    "login.library.example",
    "mail.village-council.example",
    "webmail.school.example",
    "files.research-lab.example",
    "cloud.family.example",
    "git.robotics-club.example",
    "wiki.chess.example",
    "forum.cycling.example",
    "blog.violin.example",
    "news.harbour.example",
    "tickets.football.example",
    "booking.hotel.example",
    "pay.parking.example",
    "jobs.carpentry.example",
    "stream.radio.example",
    "app.fitness.example",
    "m.train-times.example",
];

/// A request as some site takes it, and what it is: method, target, media type, body, activity.
type Template = (&'static str, &'static str, &'static str, &'static str, &'static str);

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const MULTIPART: &str = "multipart/form-data; boundary=b";
const FILE: &str = "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.pdf\"\r\n\
                    Content-Type: application/pdf\r\n\r\n%PDF\r\n--b--\r\n";
const FIELDS: &str = "--b\r\nContent-Disposition: form-data; name=\"q\"\r\n\r\nhello\r\n--b--\r\n";

const TEMPLATES: [Template; 110] = [
    ("GET", "/", "", "", "browse"),
    ("GET", "/index.html", "", "", "browse"),
    ("GET", "/favicon.ico", "", "", "browse"),
    ("GET", "/robots.txt", "", "", "browse"),
    ("GET", "/sitemap.xml", "", "", "browse"),
    ("GET", "/static/js/main.4f2a.js", "", "", "browse"),
    ("GET", "/static/css/site.css?v=12", "", "", "browse"),
    ("GET", "/images/hero.jpg", "", "", "browse"),
    ("GET", "/fonts/inter.woff2", "", "", "browse"),
    ("GET", "/video/intro.mp4", "", "", "browse"),
    ("GET", "/2026/11/28/an-article-about-things", "", "", "browse"),
    ("GET", "/search?q=upload+files+to+dropbox", "", "", "browse"),
    ("GET", "/search?q=login&page=2", "", "", "browse"),
    ("GET", "/product/1234?utm_source=mail.google.com", "", "", "browse"),
    ("GET", "/redirect?url=https%3A%2F%2Fgithub.com%2Facme", "", "", "browse"),
    ("GET", "/login", "", "", "browse"),
    ("GET", "/signup", "", "", "browse"),
    ("GET", "/account/orders", "", "", "browse"),
    ("GET", "/cart", "", "", "browse"),
    ("GET", "/api/v1/products?limit=20", "", "", "browse"),
    ("GET", "/api/v2/users/me", "", "", "browse"),
    ("GET", "/graphql?query=%7Bme%7Bid%7D%7D", "", "", "browse"),
    ("GET", "/wp-json/wp/v2/posts", "", "", "browse"),
    ("GET", "/feed/atom", "", "", "browse"),
    ("GET", "/drive/folders/abc", "", "", "browse"),
    ("GET", "/repos/acme/widget/issues", "", "", "browse"),
    ("GET", "/v1.0/me/drive/root/children", "", "", "browse"),
    ("GET", "/rest/api/2/issue/PLAN-1", "", "", "browse"),
    ("GET", "/upload", "", "", "browse"),
    ("GET", "/uploads/2026/11/photo.png", "", "", "browse"),
    ("GET", "/downloads", "", "", "browse"),
    ("GET", "/share?title=x", "", "", "browse"),
    ("GET", "/messages/17", "", "", "browse"),
    ("GET", "/socket.io/?EIO=4&transport=polling", "", "", "browse"),
    ("GET", "/.well-known/openid-configuration", "", "", "browse"),
    ("GET", "/manifest.webmanifest", "", "", "browse"),
    ("GET", "/map/tiles/12/2134/1412.png", "", "", "browse"),
    ("GET", "/live/stream.m3u8", "", "", "browse"),
    ("GET", "/live/segment-0017.ts", "", "", "browse"),
    ("GET", "/print/ticket?id=17", "", "", "browse"),
    ("HEAD", "/", "", "", "browse"),
    ("HEAD", "/downloads/latest", "", "", "browse"),
    ("OPTIONS", "/api/v1/products", "", "", "browse"),
    ("GET", "/docs/price-list.pdf", "", "", "download"),
    ("GET", "/downloads/setup-4.2.exe", "", "", "download"),
    ("GET", "/downloads/tool.tar.gz", "", "", "download"),
    ("GET", "/export/orders.csv", "", "", "download"),
    ("GET", "/files/minutes.docx?version=3", "", "", "download"),
    ("GET", "/release/firmware.zip", "", "", "download"),
    ("GET", "/logout", "", "", "logout"),
    ("POST", "/logout", FORM, "csrf=1", "logout"),
    ("GET", "/account/signout", "", "", "logout"),
    ("POST", "/login", FORM, "username=alice%40acme.test&password=x", "login"),
    ("POST", "/account/login", FORM, "email=alice%40acme.test&password=x", "login"),
    ("POST", "/users/sign_in", FORM, "user%5Bemail%5D=a&user%5Bpassword%5D=x", "login"),
    ("POST", "/api/login", JSON, "{\"username\":\"alice\",\"password\":\"x\"}", "login"),
    (
        "POST",
        "/api/auth/login",
        JSON,
        "{\"email\":\"alice@acme.test\",\"password\":\"x\"}",
        "login",
    ),
    ("POST", "/wp-login.php", FORM, "log=alice&pwd=x", "login"),
    ("POST", "/oauth/token", FORM, "grant_type=password&username=alice", "login"),
    ("POST", "/signin", JSON, "{\"login\":\"alice\"}", "login"),
    ("POST", "/contact", FORM, "name=Alice&message=Hello", "form_post"),
    ("POST", "/search", FORM, "q=bread", "form_post"),
    ("POST", "/cart/add", FORM, "sku=17&count=2", "form_post"),
    ("POST", "/checkout", JSON, "{\"cart\":17}", "form_post"),
    ("POST", "/newsletter/subscribe", FORM, "email=alice%40acme.test", "form_post"),
    ("POST", "/wp-admin/admin-ajax.php", FORM, "action=heartbeat", "form_post"),
    ("POST", "/wp-comments-post.php", FORM, "comment=Nice&author=Alice", "form_post"),
    ("POST", "/api/v1/events", JSON, "[{\"name\":\"view\"}]", "form_post"),
    ("POST", "/collect?v=1", "text/plain;charset=UTF-8", "e=view", "form_post"),
    ("POST", "/graphql", JSON, "{\"query\":\"{ me { id } }\"}", "form_post"),
    ("POST", "/graphql", JSON, "{\"query\":\"mutation { buy(id: 1) { id } }\"}", "form_post"),
    ("POST", "/rpc", JSON, "{\"jsonrpc\":\"2.0\",\"method\":\"ping\",\"id\":1}", "form_post"),
    ("POST", "/api/chat.postMessage", JSON, "{\"channel\":\"C1\",\"text\":\"x\"}", "form_post"),
    ("POST", "/2/files/delete_v2", JSON, "{\"path\":\"/a\"}", "form_post"),
    ("POST", "/v1/chat/completions", JSON, "{\"messages\":[]}", "form_post"),
    ("POST", "/repos/acme/widget/issues", JSON, "{\"title\":\"x\"}", "form_post"),
    ("POST", "/rest/api/2/issue", JSON, "{\"fields\":{\"summary\":\"x\"}}", "form_post"),
    ("POST", "/survey", MULTIPART, FIELDS, "form_post"),
    ("POST", "/socket.io/?EIO=4&sid=1", "text/plain;charset=UTF-8", "40", "form_post"),
    ("POST", "/csp-report", "application/csp-report", "{}", "form_post"),
    ("POST", "/soap", "text/xml; charset=utf-8", "<x/>", "form_post"),
    ("PUT", "/api/v1/settings", JSON, "{\"theme\":\"dark\"}", "form_post"),
    ("PATCH", "/api/v1/orders/17", JSON, "{\"state\":\"paid\"}", "form_post"),
    ("PUT", "/api/v1/cart", JSON, "{\"items\":[]}", "form_post"),
    ("DELETE", "/api/v1/cart/17", "", "", "delete"),
    ("DELETE", "/api/sessions/current", "", "", "delete"),
    ("POST", "/upload", MULTIPART, FILE, "upload"),
    ("POST", "/api/v1/attachments", MULTIPART, FILE, "upload"),
    ("POST", "/profile/photo", MULTIPART, FILE, "upload"),
    ("POST", "/jobs/apply", MULTIPART, FILE, "upload"),
    ("POST", "/wp-admin/async-upload.php", MULTIPART, FILE, "upload"),
    ("POST", "/api/import", "application/pdf", "%PDF", "upload"),
    ("POST", "/api/import", "application/zip", "PK", "upload"),
    ("PUT", "/webdav/plan.docx", "application/octet-stream", "x", "upload"),
    ("PUT", "/remote.php/dav/files/alice/plan.pdf", "application/pdf", "%PDF", "upload"),
    ("PUT", "/bucket/backup.tar.gz", "application/gzip", "x", "upload"),
    ("POST", "/2/files/upload", "application/octet-stream", "x", "upload"),
    ("POST", "/photos", "image/jpeg", "x", "upload"),
    ("PATCH", "/files/24e533e", "application/offset+octet-stream", "x", "upload"),
    ("PROPFIND", "/remote.php/dav/files/alice/", "", "", "browse"),
    ("REPORT", "/caldav/alice/", "", "", "browse"),
    ("MKCOL", "/webdav/new/", "", "", "create"),
    ("MOVE", "/webdav/a.txt", "", "", "move"),
    ("COPY", "/webdav/a.txt", "", "", "copy"),
    ("GET", "/ajax/items?_=1732752000", "", "", "browse"),
    ("GET", "/i/adserver?zone=12&cb=998", "", "", "browse"),
    ("GET", "/pixel.gif?uid=17&ev=pv", "", "", "browse"),
    ("GET", "/embed/player?id=youtube-like", "", "", "browse"),
    ("GET", "/api/v1/status", "", "", "browse"),
    ("GET", "/login.php?next=%2Faccount", "", "", "browse"),
];

#[test]
fn hardly_a_request_to_a_stranger_is_labelled_wrongly() {
    let catalog = builtin_catalog();
    let mut wrong = Vec::new();
    let mut count = 0_usize;
    for site in SITES {
        for (method, target, media, body, activity) in TEMPLATES {
            count += 1;
            let media = (!media.is_empty()).then_some(media);
            let body = (!body.is_empty()).then_some(body);
            let line = format!("{method} https://{site}{target}");
            Request::parse(&line).with(media, body).classify(&catalog, |told| {
                let found: Vec<&str> = told.operations.iter().map(|it| it.activity).collect();
                if told.site.app.is_some() || told.site.categories != ["unknown"] {
                    wrong.push(format!("{line}: {:?}", told.site.app));
                } else if found != [activity] {
                    wrong.push(format!("{line}: {found:?}, not {activity}"));
                }
            });
        }
    }
    assert!(count >= REQUESTS_MIN, "{count}");
    let report = format!("wrong labels: {} of {count} requests to strangers\n", wrong.len());
    assert!(std::io::Write::write_all(&mut std::io::stderr(), report.as_bytes()).is_ok());
    let shown: Vec<&String> = wrong.iter().take(20).collect();
    assert!(wrong.len() * 1_000 <= count * WRONG_PER_MILLE_MAX, "{report}{shown:#?}");
}
