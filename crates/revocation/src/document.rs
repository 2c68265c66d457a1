//! A list that people change: everything that it says is kept, and it is written the same way every time.
//!
//! Used by the commands on files. Entries are sorted, from many to one, so that a change is one line in a diff. What is
//! written is unsigned: signing is the last step, in `sealing.rs`.

use std::sync::Arc;

use trust::{Certificate, KeySet, Mode, Sha256, Time};

use crate::body::{KINDS, key_set, split_line, write_keys};
use crate::header::{Body, Header};
use crate::list::frame;
use crate::values::{Encoding, Name, OverlayId, Scope, Written};
use crate::whom::Kind;
use crate::{Difference, Entry, Material, ReadError, Requirements, UnverifiedCrl, import};

/// A list.
#[derive(Clone, Debug)]
pub struct Document {
    header: Header,
    entries: Vec<Entry>,
    signatures: Vec<Option<Sha256>>,
}

impl Document {
    /// A list of this name that was never issued.
    pub fn new(list: &str, mode: Mode) -> Result<Document, String> {
        let list = Name::read(list).map_err(|why| format!("{why}; choose another"))?.0;
        let header = Header {
            list,
            mode,
            scope: None,
            sequence: 0,
            entries: 0,
            issued_at: Time::BEGINNING,
            expires_at: Time::BEGINNING,
            absorbs: Vec::new(),
            confirm: false,
            encoding: Encoding::Lines,
            body: None,
        };
        Ok(Document { header, entries: Vec::new(), signatures: Vec::new() })
    }

    /// Reads a list, compiled or not, signed or not. Signatures are not judged.
    pub fn parse(bytes: Vec<u8>) -> Result<Document, ReadError> {
        let anything = Requirements { max_bytes: u64::MAX, ..Requirements::default() };
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Err(match crate::read_under(bytes, &anything) {
                Err(error) => error,
                Ok(Material::List(_) | Material::Crls(_)) => ReadError::whole(
                    "this is a CRL and no list; add its entries to a list with `portcullis revocations import`"
                        .to_owned(),
                ),
            });
        }
        let frame = frame(&bytes, &anything)?;
        let (keys, lines) = frame.split(&bytes)?;
        let mut entries = Vec::new();
        for ((keys, kind), name) in keys.into_iter().zip(Kind::ALL).zip(KINDS) {
            entries.extend(key_set(keys, name)?.entries().map(|key| Entry::compiled(kind, key)));
        }
        lines.each(|entry| entries.push(entry)).map_err(|flaw| frame.error(flaw, split_line(&bytes).0))?;
        drop(bytes);
        let signatures = frame.opened.signatures.iter().map(crate::envelope::Signature::key).collect();
        let mut document = Document { header: frame.header, entries, signatures };
        document.sort();
        Ok(document)
    }

    /// What it says of itself; how many entries it has and how it is written are of the file it came from.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Its entries, sorted, each once.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The keys that signed the file it came from, by their own word; `None` for one that names no key of our kind.
    #[must_use]
    pub fn signatures(&self) -> &[Option<Sha256>] {
        &self.signatures
    }

    /// Adds an entry; false if it is there already.
    pub fn add(&mut self, entry: Entry) -> bool {
        match self.entries.binary_search(&entry) {
            Ok(_) => false,
            Err(at) => {
                self.entries.insert(at, entry);
                true
            }
        }
    }

    /// Adds many entries; how many were not there yet.
    pub fn add_all(&mut self, entries: impl IntoIterator<Item = Entry>) -> usize {
        let before = self.entries.len();
        self.entries.extend(entries);
        self.sort();
        self.entries.len().saturating_sub(before)
    }

    /// Takes out the entries that `which` says, and returns them.
    pub fn remove(&mut self, which: impl FnMut(&Entry) -> bool) -> Vec<Entry> {
        let (removed, kept) = std::mem::take(&mut self.entries).into_iter().partition(which);
        self.entries = kept;
        removed
    }

    /// Adds the entries of a CRL that one of `issuers` signed; how many were not there yet.
    pub fn import(
        &mut self,
        crl: &UnverifiedCrl,
        issuers: &[Certificate],
        note: Option<&str>,
    ) -> Result<usize, String> {
        let mut entries = import::entries(crl, issuers)?;
        if let Some(note) = note {
            entries.iter_mut().try_for_each(|entry| entry.set_note(note))?;
        }
        Ok(self.add_all(entries))
    }

    /// Says whom it is meant for.
    pub fn set_scope(&mut self, scope: Option<&str>) -> Result<(), String> {
        let scope = scope.map(Scope::read).transpose().map_err(|why| format!("{why}; choose another"))?;
        self.header.scope = scope.map(|scope| scope.0);
        Ok(())
    }

    /// Says that it makes up for a denial of the overlay; false if it says so already.
    pub fn absorb(&mut self, id: &str) -> Result<bool, String> {
        let id: Arc<str> = OverlayId::read(id).map_err(|why| format!("{why}; copy it from `portcullis deny`"))?.0;
        let added = !self.header.absorbs.contains(&id);
        if added {
            self.header.absorbs.push(id);
            self.header.absorbs.sort();
        }
        Ok(added)
    }

    /// Says whether this issue may cut more sessions than sidecars allow, once it is signed.
    pub fn set_confirm(&mut self, confirm: bool) {
        self.header.confirm = confirm;
    }

    /// Begins a new issue: the next number, these dates, and no confirmation, which was the last issue's.
    pub fn issue(&mut self, issued_at: Time, expires_at: Time) -> Result<(), String> {
        if expires_at <= issued_at {
            return Err("the list would expire before it is issued; choose a later expiry".to_owned());
        }
        let full = || "the sequence number cannot grow any more; begin a list of another name".to_owned();
        self.header.sequence = self.header.sequence.checked_add(1).ok_or_else(full)?;
        (self.header.issued_at, self.header.expires_at) = (issued_at, expires_at);
        self.header.confirm = false;
        Ok(())
    }

    /// The list as JSON lines, unsigned. Refused if it came from a compiled file of which only keys are left.
    pub fn render(&self) -> Result<Vec<u8>, String> {
        let compiled = self.entries.iter().filter(|entry| entry.whom.is_compiled()).count();
        if compiled > 0 {
            return Err(format!(
                "{compiled} entries are keys of a compiled list and cannot be written as lines; change the list that \
                 was compiled"
            ));
        }
        let mut text = self.first_line(Encoding::Lines, None)?;
        text.push(b'\n');
        write_lines(&mut text, &self.entries)?;
        Ok(text)
    }

    /// The list in the binary form, unsigned.
    pub fn compile(&self) -> Result<Vec<u8>, String> {
        let mut lines: Vec<&Entry> = self.entries.iter().filter(|entry| entry.compact().is_none()).collect();
        let kinds = Kind::ALL.map(|kind| self.keys(kind, &mut lines));
        let [serials, public_keys, certificates] = kinds;
        let mut body = write_keys(&[serials?, public_keys?, certificates?]);
        lines.sort_unstable();
        write_lines(&mut body, lines)?;
        let mut file = self.first_line(Encoding::Binary, Some(Body::of(&body)))?;
        file.push(b'\n');
        file.extend(body);
        Ok(file)
    }

    /// The keys of one kind, sorted. What names the same as a key for another reason is a line of its own: no entry
    /// is lost.
    fn keys<'a>(&'a self, kind: Kind, lines: &mut Vec<&'a Entry>) -> Result<Vec<u128>, String> {
        let of_kind =
            |entry: &'a Entry| entry.compact().filter(|(other, _)| *other == kind).map(|(_, key)| (key, entry));
        let mut keyed: Vec<(u128, &Entry)> = self.entries.iter().filter_map(of_kind).collect();
        keyed.sort_unstable_by_key(|(key, entry)| (KeySet::parts(*key).0, !entry.whom.is_compiled(), *key));
        let mut keys: Vec<u128> = Vec::with_capacity(keyed.len());
        for (key, entry) in keyed {
            let taken = keys.last().is_some_and(|last| KeySet::parts(*last).0 == KeySet::parts(key).0);
            if taken && entry.whom.is_compiled() {
                return Err(format!("{entry} is named twice, and of neither is more left than a key; remove one"));
            }
            if taken { lines.push(entry) } else { keys.push(key) }
        }
        Ok(keys)
    }

    /// What changes from this list to `newer`.
    #[must_use]
    pub fn diff(&self, newer: &Document) -> Difference {
        Difference::between(self, newer)
    }

    fn sort(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
    }

    fn first_line(&self, encoding: Encoding, body: Option<Body>) -> Result<Vec<u8>, String> {
        if self.header.expires_at <= self.header.issued_at {
            return Err("the list was never issued, so it has no dates; issue it first".to_owned());
        }
        let entries = u64::try_from(self.entries.len()).unwrap_or(u64::MAX);
        Header { entries, encoding, body, ..self.header.clone() }.render()
    }
}

fn write_lines<'a>(text: &mut Vec<u8>, entries: impl IntoIterator<Item = &'a Entry>) -> Result<(), String> {
    for entry in entries {
        entry.check()?;
        text.extend(entry.line().into_bytes());
        text.push(b'\n');
    }
    Ok(())
}
