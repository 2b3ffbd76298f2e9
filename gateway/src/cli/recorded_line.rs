//! Reads a recorded event out of its line, into place: an event has some fifty fields, and a replay
//! millions of events.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::recorded::{Recorded, RecordedOperation};

/// Reads `line` into `recorded`, which is empty.
///
/// # Errors
/// Where the line is no event.
pub(super) fn read<'l>(line: &'l str, recorded: &mut Recorded<'l>) -> serde_json::Result<()> {
    let mut reader = serde_json::Deserializer::from_str(line);
    reader.deserialize_map(Into(recorded))?;
    reader.end()
}

struct Into<'r, 'l>(&'r mut Recorded<'l>);

/// One field a line: its name in the line, where it goes, and how it is read. `word` is a text that is
/// there, `text` one that may be.
macro_rules! fields {
    ($($name:ident => $field:ident: $how:ident,)*) => {
        #[derive(Deserialize)]
        #[serde(field_identifier, rename_all = "snake_case")]
        enum Field {
            $($name,)*
            #[serde(other)]
            Other,
        }

        impl<'l> Visitor<'l> for Into<'_, 'l> {
            type Value = ();

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an event")
            }

            fn visit_map<M: MapAccess<'l>>(self, mut map: M) -> Result<(), M::Error> {
                while let Some(field) = map.next_key()? {
                    match field {
                        $(Field::$name => self.0.$field = fields!($how map),)*
                        Field::Other => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(())
            }
        }
    };
    (word $map:ident) => { $map.next_value::<Borrowed<'l>>()?.0 };
    (text $map:ident) => { $map.next_value::<Option<Borrowed<'l>>>()?.map(|text| text.0) };
    (texts $map:ident) => { $map.next_value_seed(Texts)? };
    (plain $map:ident) => { $map.next_value()? };
}

fields! {
    Id => id: word,
    Type => record_type: word,
    State => state: word,
    Time => time: word,
    User => user: text,
    Groups => groups: texts,
    Device => device: text,
    DeviceClass => device_class: text,
    Os => os: text,
    AccessMethod => access_method: text,
    ClientIp => client_ip: plain,
    SourceCountry => source_country: text,
    Host => host: text,
    DestIp => dest_ip: plain,
    DestPort => dest_port: plain,
    DestCountry => dest_country: text,
    Method => method: text,
    Url => url: text,
    ContentType => content_type: text,
    RequestBytes => request_bytes: plain,
    App => app: text,
    Category => category: text,
    Categories => categories: texts,
    AppTags => app_tags: texts,
    Risk => risk: plain,
    Instance => instance: text,
    InstanceKind => instance_kind: text,
    Activity => activity: text,
    FromUser => from_user: text,
    ToUser => to_user: text,
    Operations => operations: plain,
    FileName => file_name: text,
    FileType => file_type: text,
    FileSize => file_size: plain,
    Dlp => dlp: plain,
    Threat => threat: plain,
    Inspection => inspection: text,
    Action => action: text,
    Rule => rule: text,
    BlockReason => block_reason: text,
    TotalMs => total_ms: plain,
}

/// A text that stays in the line unless it has escapes in it: serde borrows a `Cow` only where it stands
/// alone.
#[derive(Deserialize)]
struct Borrowed<'l>(#[serde(borrow)] Cow<'l, str>);

struct Texts;

impl<'l> DeserializeSeed<'l> for Texts {
    type Value = Vec<Cow<'l, str>>;

    fn deserialize<D: Deserializer<'l>>(self, from: D) -> Result<Self::Value, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'l> Visitor<'l> for Texts {
    type Value = Vec<Cow<'l, str>>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("texts")
    }

    fn visit_seq<S: SeqAccess<'l>>(self, mut texts: S) -> Result<Self::Value, S::Error> {
        let mut all = Vec::new();
        while let Some(text) = texts.next_element::<Borrowed<'l>>()? {
            all.push(text.0);
        }
        Ok(all)
    }
}

impl<'de: 'l, 'l> Deserialize<'de> for RecordedOperation<'l> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Told<'t> {
            #[serde(borrow)]
            activity: Option<Borrowed<'t>>,
            #[serde(borrow)]
            to_user: Option<Borrowed<'t>>,
        }
        let told = Told::deserialize(from)?;
        let text = |text: Option<Borrowed<'l>>| text.map(|text| text.0);
        Ok(Self { activity: text(told.activity), to_user: text(told.to_user) })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordedHit {
    pub(super) profile: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RecordedThreat {
    pub(super) name: String,
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_line_is_read_into_place_and_what_is_none_is_refused() {
        let line = r#"{"id":"a","type":"flow","new":{"x":[1]},"user":"a\u0062","groups":["x","y"],
            "dest_port":443,"client_ip":"2001:db8::1","risk":null,
            "operations":[{"activity":"share","to_user":"bob@example.com","rule":"r"},{}],
            "dlp":[{"profile":"cards","count":3}],"threat":{"name":"EICAR"}}"#;
        let mut recorded = Recorded::default();
        read(line, &mut recorded).unwrap();
        assert_eq!((&*recorded.id, &*recorded.record_type, &*recorded.state), ("a", "flow", ""));
        assert_eq!(recorded.user.as_deref(), Some("ab"));
        assert!(matches!(recorded.groups.as_slice(), [Cow::Borrowed("x"), Cow::Borrowed("y")]));
        assert_eq!((recorded.dest_port, recorded.risk), (Some(443), None));
        let told: Vec<_> = recorded.operations.iter().map(|it| it.to_user.as_deref()).collect();
        assert_eq!(told, [Some("bob@example.com"), None]);
        let hit = recorded.dlp.first().map(|hit| hit.profile.as_str());
        assert_eq!((hit, recorded.threat.unwrap().name.as_str()), (Some("cards"), "EICAR"));
        for wrong in ["", "[]", "{", "{}}", r#"{"user":7}"#, r#"{"groups":"x"}"#] {
            assert!(read(wrong, &mut Recorded::default()).is_err(), "{wrong}");
        }
    }
}
