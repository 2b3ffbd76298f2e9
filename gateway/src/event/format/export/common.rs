//! Fields of every record but the transaction, which has names of its own.

use serde_json::Value;

use super::words;
use crate::event::format::source::{Row, field, made, number};

/// Who, where and what became of it.
pub(super) const ALL: &[Row] = &[
    field("_id", "id"),
    made("timestamp", "`time` in seconds since 1970", words::seconds),
    made("transaction_id", "`parent_id`, else `id`", |event| {
        event.get("parent_id").or_else(|| event.get("id")).cloned()
    }),
    field("user", "user"),
    field("userkey", "user"),
    made("ur_normalized", "`user` in lower case", words::lower_user),
    field("srcip", "client_ip"),
    field("userip", "client_ip"),
    field("src_country", "source_country"),
    field("dst_country", "dest_country"),
    field("dstip", "dest_ip"),
    field("dsthost", "host"),
    field("site", "host"),
    field("hostname", "device"),
    field("device", "agent_device"),
    made("os", "`os`, else `agent_os`", words::os),
    made("access_method", "`explicit` as `Explicit Proxy`, else `Client`", words::access_method),
    field("app", "app"),
    made("appcategory", "`category` in words", words::category),
    made("category", "`category` in words", words::category),
    made("cci", "100 less `risk`", |event| words::confidence(event).map(Value::from)),
    made(
        "ccl",
        "`excellent` from a `cci` of 90, `high` 75, `medium` 60, `low` 50, else `poor`",
        words::confidence_level,
    ),
    made("traffic_type", "`CloudApp` where there is an `app`, else `Web`", words::traffic_type),
    made(
        "action",
        "`coach` as `useralert`, with a `justification` as `proceed`; else `action`",
        words::action,
    ),
    field("policy", "rule"),
    number("count", 1),
];
