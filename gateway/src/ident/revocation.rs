//! Which certificates and devices are no longer welcome.

use std::collections::BTreeSet;

use serde::Deserialize;

/// One tenant's revoked serials and devices (the file revoked.yaml).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RevocationList {
    /// Serial numbers, hexadecimal.
    serials: BTreeSet<String>,
    /// Device ids; every certificate and token of a device goes with it.
    devices: BTreeSet<String>,
}

impl RevocationList {
    /// Whether a certificate with this serial, or a credential of this device, is refused.
    #[must_use]
    pub fn revokes(&self, serial: Option<&str>, device: Option<&str>) -> bool {
        serial.is_some_and(|serial| self.serials.contains(serial))
            || device.is_some_and(|device| self.devices.contains(device))
    }

    /// Adds a serial in any usual spelling (`0a:1b`, upper case, `0x…`). False where it is none.
    pub fn revoke_serial(&mut self, serial: &str) -> bool {
        let Some(serial) = canonical_serial(serial) else { return false };
        self.serials.insert(serial);
        true
    }

    pub fn revoke_device(&mut self, device: &str) {
        self.devices.insert(device.to_owned());
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.serials.len() + self.devices.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rewrites serials that a person typed into the form certificates are compared in. The first
    /// that is no serial is the error.
    ///
    /// # Errors
    /// The text that is no serial number.
    pub fn canonical(self) -> Result<Self, String> {
        let mut list = Self { serials: BTreeSet::new(), devices: self.devices };
        for serial in self.serials {
            if !list.revoke_serial(&serial) {
                return Err(serial);
            }
        }
        Ok(list)
    }

    /// The list as the file's text. JSON strings are YAML strings.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let lines = |set: &BTreeSet<String>| {
            set.iter().map(|item| format!("  - {}\n", serde_json::json!(item))).collect::<String>()
        };
        let (serials, devices) = (lines(&self.serials), lines(&self.devices));
        format!("# Revoked; in force within a second.\nserials:\n{serials}devices:\n{devices}")
    }
}

/// Lower-case digits without separators, prefix or leading zeros bytes.
fn canonical_serial(serial: &str) -> Option<String> {
    let digits: String = serial
        .trim()
        .trim_start_matches("0x")
        .chars()
        .filter(|c| !matches!(c, ':' | ' '))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let digits = if digits.len() % 2 == 1 { format!("0{digits}") } else { digits };
    let bytes = super::hex::decode(&digits)?;
    let significant = bytes.iter().position(|byte| *byte != 0)?;
    Some(super::hex::encode(bytes.get(significant..)?))
}
