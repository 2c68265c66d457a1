//! Revocation lists as JSON lines: the header, then one entry a line.
//! Tests of the reader, the sources and the whole program call it.
//! It must never validate: wrong counts, unknown keys and broken lines are written as asked for.

use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

use crate::authority::Authority;
use crate::encoding::hex;
use crate::leaf::Leaf;

/// What a list says. Issued now, expires in an hour, counts its own entries, unless told otherwise.
#[derive(Clone, Debug)]
pub struct ListSpec {
    list: String,
    sequence: u64,
    issued_at: OffsetDateTime,
    expires_at: OffsetDateTime,
    claimed: Option<u64>,
    lines: Vec<String>,
    header: Vec<(String, Option<String>)>,
}

impl ListSpec {
    /// An empty list of this name and sequence number.
    pub fn new(list: &str, sequence: u64) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            list: list.to_owned(),
            sequence,
            issued_at: now,
            expires_at: now + Duration::hours(1),
            claimed: None,
            lines: Vec::new(),
            header: Vec::new(),
        }
    }

    /// When the list was issued.
    pub fn issued_at(mut self, at: OffsetDateTime) -> Self {
        self.issued_at = at;
        self
    }

    /// When the list stops being valid.
    pub fn expires_at(mut self, at: OffsetDateTime) -> Self {
        self.expires_at = at;
        self
    }

    /// Valid until this long after its issue; set `issued_at` first.
    pub fn expires_in(self, duration: Duration) -> Self {
        let at = self.issued_at + duration;
        self.expires_at(at)
    }

    /// The header counts this many entries, whatever follows.
    pub fn claiming(mut self, entries: u64) -> Self {
        self.claimed = Some(entries);
        self
    }

    /// A header field set to a JSON value (replaced if it is an ordinary one, added otherwise).
    pub fn header_field(mut self, key: &str, json: &str) -> Self {
        self.header.push((key.to_owned(), Some(json.to_owned())));
        self
    }

    /// The header without this field.
    pub fn without_header_field(mut self, key: &str) -> Self {
        self.header.push((key.to_owned(), None));
        self
    }

    /// One line as it stands.
    pub fn entry(mut self, line: &str) -> Self {
        self.lines.push(line.to_owned());
        self
    }

    /// Many lines as they stand.
    pub fn entries<Line: Into<String>>(mut self, lines: impl IntoIterator<Item = Line>) -> Self {
        self.lines.extend(lines.into_iter().map(Into::into));
        self
    }

    /// Revokes this certificate by issuer and serial.
    pub fn serial(self, leaf: &Leaf) -> Self {
        self.serial_of(&leaf.serial(), &leaf.issuer_spki_sha256())
    }

    /// Revokes a serial of the issuer whose SubjectPublicKeyInfo has this digest.
    pub fn serial_of(self, serial: &[u8], issuer_spki: &[u8; 32]) -> Self {
        self.value(&json!({"serial": hex(serial), "issuer": hex(issuer_spki)}))
    }

    /// Revokes an intermediate's certificate that this issuer signed.
    pub fn authority_serial(self, authority: &Authority, issuer: &Authority) -> Self {
        self.serial_of(&authority.serial(), &issuer.spki_sha256())
    }

    /// Revokes everything with this leaf's public key.
    pub fn spki(self, leaf: &Leaf) -> Self {
        self.value(&json!({"spki": hex(&leaf.spki_sha256())}))
    }

    /// Revokes exactly this certificate by its fingerprint.
    pub fn certificate(self, leaf: &Leaf) -> Self {
        self.value(&json!({"certificate": hex(&leaf.sha256())}))
    }

    /// Revokes a SPIFFE ID, or with a trailing `/*` all below it.
    pub fn id(self, id: &str) -> Self {
        self.value(&json!({"id": id}))
    }

    /// Revokes a whole trust domain.
    pub fn trust_domain(self, trust_domain: &str) -> Self {
        self.value(&json!({"trust_domain": trust_domain}))
    }

    /// Revokes everything that this authority's key signed.
    pub fn issuer(self, authority: &Authority) -> Self {
        self.value(&json!({"issuer": hex(&authority.spki_sha256())}))
    }

    /// The last entry concerns only certificates issued before this moment.
    pub fn issued_before(self, at: OffsetDateTime) -> Self {
        self.with("issued_before", &Value::from(rfc3339(at)).to_string())
    }

    /// The last entry ends at this moment.
    pub fn until(self, at: OffsetDateTime) -> Self {
        self.with("until", &Value::from(rfc3339(at)).to_string())
    }

    /// The last entry's reason.
    pub fn reason(self, reason: &str) -> Self {
        self.with("reason", &Value::from(reason).to_string())
    }

    /// The last entry's note.
    pub fn note(self, note: &str) -> Self {
        self.with("note", &Value::from(note).to_string())
    }

    /// One more field of the last entry, as JSON.
    pub fn with(mut self, key: &str, json: &str) -> Self {
        let line = self.lines.last_mut().expect("an entry comes before its fields");
        assert_eq!(line.pop(), Some('}'), "fields can be added to an entry that ends with a brace");
        line.push_str(&format!(",{}:{json}}}", Value::from(key)));
        self
    }

    /// The header line, without its line end.
    pub fn header(&self) -> String {
        let claimed = self.claimed.unwrap_or(self.lines.len() as u64);
        let mut fields: Vec<(String, String)> = vec![
            ("portcullis".to_owned(), "\"revocations/v1\"".to_owned()),
            ("list".to_owned(), Value::from(self.list.as_str()).to_string()),
            ("sequence".to_owned(), self.sequence.to_string()),
            ("entries".to_owned(), claimed.to_string()),
            ("issued_at".to_owned(), Value::from(rfc3339(self.issued_at)).to_string()),
            ("expires_at".to_owned(), Value::from(rfc3339(self.expires_at)).to_string()),
        ];
        for (key, json) in &self.header {
            let position = fields.iter().position(|(name, _)| name == key);
            match (position, json) {
                (Some(position), Some(json)) => fields[position].1.clone_from(json),
                (None, Some(json)) => fields.push((key.clone(), json.clone())),
                (Some(position), None) => drop(fields.remove(position)),
                (None, None) => {}
            }
        }
        let fields: Vec<String> =
            fields.iter().map(|(key, json)| format!("{}:{json}", Value::from(key.as_str()))).collect();
        format!("{{{}}}", fields.join(","))
    }

    /// The whole file.
    pub fn text(&self) -> String {
        let mut text = self.header();
        text.push('\n');
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn value(self, entry: &Value) -> Self {
        let line = entry.to_string();
        self.entry(&line)
    }
}

/// A moment as RFC 3339 text.
pub fn rfc3339(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).expect("years of four digits have an RFC 3339 form")
}
