//! The header fields of one message: a flat list in one text buffer.
//!
//! All fields stand one after another in the form in which HTTP/1 sends them (`name: value CR LF`), and a small
//! record a field says where. Building a list therefore costs no allocation once its buffers have grown, looking
//! a name up is a walk over a few dozen records, and writing a list that nobody has edited is one copy.
//!
//! Names are kept in lower case, order and repetition are kept, and nothing that is not a valid field (RFC 9110
//! sections 5.1 and 5.5) can get in: a list can always be written to a connection as it stands.

use std::fmt;

/// One message's header (or trailer) fields.
#[derive(Default)]
pub struct Headers {
    /// The fields as HTTP/1 writes them. May hold dead text (removed fields) between living ones.
    text: Vec<u8>,
    fields: Vec<Record>,
    /// Bytes of `text` that no record points to. Zero means: records stand in the order of the text, without gaps.
    dead: usize,
    /// One bit for each [`Known`] that was ever pushed since the last `clear`: a filter, never a proof of presence.
    seen: u64,
}

#[derive(Clone, Copy)]
struct Record {
    at: u32,
    value_len: u32,
    name_len: u16,
    known: Known,
}

impl Record {
    fn name_end(self) -> usize {
        self.at as usize + usize::from(self.name_len)
    }
    fn value_start(self) -> usize {
        self.name_end() + SEPARATOR.len()
    }
    fn value_end(self) -> usize {
        self.value_start() + self.value_len as usize
    }
    fn end(self) -> usize {
        self.value_end() + LINE_END.len()
    }
    fn len(self) -> usize {
        self.end() - self.at as usize
    }
}

const SEPARATOR: &[u8] = b": ";
const LINE_END: &[u8] = b"\r\n";

/// Why a field was not taken into a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHeader {
    /// The name is empty, longer than [`Headers::MAX_NAME`], or not a token (RFC 9110 section 5.1).
    #[error("header name is not a token")]
    Name,
    /// The value holds a control byte other than tab, or begins or ends with white space (RFC 9110 section 5.5).
    #[error("header value holds a forbidden byte")]
    Value,
    /// The list would exceed [`Headers::MAX_BYTES`] or [`Headers::MAX_FIELDS`].
    #[error("too many or too large header fields")]
    TooLarge,
}

macro_rules! known {
    ($($(#[$doc:meta])* $id:ident = $name:literal),+ $(,)?) => {
        /// Names that the codec, the edge gate or the log ask for, recognised once when a field is pushed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// Any name without an id of its own.
            Other,
            /// Any other name that begins with `x-forwarded-`.
            XForwarded,
            /// Any other name that begins with `x-diolkos-`.
            XDiolkos,
            $($(#[$doc])* #[doc = concat!("`", $name, "`")] $id,)+
        }
        impl Known {
            /// All ids that have a name, in their numeric order.
            pub const ALL: &'static [Self] = &[$(Self::$id,)+];

            /// The lower-case name; empty for the ids that stand for several names.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$id => $name,)+
                    Self::Other | Self::XForwarded | Self::XDiolkos => "",
                }
            }

            /// Finds the id of a lower-case name.
            #[allow(non_upper_case_globals, reason = "one pattern for each id, under its name")]
            pub fn of(name: &[u8]) -> Self {
                $(
                    const $id: &[u8] = $name.as_bytes();
                )+
                match name {
                    $($id => Self::$id,)+
                    _ if name.starts_with(b"x-forwarded-") => Self::XForwarded,
                    _ if name.starts_with(b"x-diolkos-") => Self::XDiolkos,
                    _ => Self::Other,
                }
            }
        }
    };
}
known! {
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    Authorization = "authorization",
    ClientCert = "client-cert",
    ClientCertChain = "client-cert-chain",
    Connection = "connection",
    ContentEncoding = "content-encoding",
    ContentLength = "content-length",
    ContentRange = "content-range",
    ContentType = "content-type",
    Cookie = "cookie",
    Date = "date",
    Expect = "expect",
    Forwarded = "forwarded",
    Host = "host",
    KeepAlive = "keep-alive",
    Location = "location",
    MaxForwards = "max-forwards",
    ProxyAuthenticate = "proxy-authenticate",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    Server = "server",
    SetCookie = "set-cookie",
    Te = "te",
    Traceparent = "traceparent",
    Trailer = "trailer",
    TransferEncoding = "transfer-encoding",
    Upgrade = "upgrade",
    UserAgent = "user-agent",
    Via = "via",
    XApiKey = "x-api-key",
    XDiolkosToken = "x-diolkos-token",
    XForwardedFor = "x-forwarded-for",
    XForwardedHost = "x-forwarded-host",
    XForwardedPort = "x-forwarded-port",
    XForwardedPrefix = "x-forwarded-prefix",
    XForwardedProto = "x-forwarded-proto",
    XRealIp = "x-real-ip",
    XRequestId = "x-request-id",
}

impl Known {
    const fn bit(self) -> u64 {
        1 << (self as u8)
    }

    /// Fields that belong to one connection and are never forwarded (RFC 9110 section 7.6.1), the framing of an
    /// HTTP/1 message included: whoever writes a message states its framing anew.
    pub const fn is_hop_by_hop(self) -> bool {
        HOP_BY_HOP & self.bit() != 0
    }

    /// Fields whose value is a credential: it is never shown in logs, errors or debug output.
    pub const fn is_secret(self) -> bool {
        matches!(
            self,
            Self::Authorization
                | Self::ProxyAuthorization
                | Self::Cookie
                | Self::SetCookie
                | Self::XApiKey
                | Self::XDiolkosToken
        )
    }
}

const HOP_BY_HOP: u64 = Known::Connection.bit()
    | Known::ContentLength.bit()
    | Known::KeepAlive.bit()
    | Known::ProxyAuthenticate.bit()
    | Known::ProxyAuthorization.bit()
    | Known::ProxyConnection.bit()
    | Known::Te.bit()
    | Known::Trailer.bit()
    | Known::TransferEncoding.bit()
    | Known::Upgrade.bit();

impl Headers {
    /// Fields in one list. The codec takes at most 100 from a connection; the rest is room for what plugins add.
    pub const MAX_FIELDS: usize = 256;
    /// Bytes of one list in its HTTP/1 form. The codec takes at most 64 KiB from a connection.
    pub const MAX_BYTES: usize = 128 << 10;
    /// Bytes of one name.
    pub const MAX_NAME: usize = 1024;

    /// An empty list; allocates nothing.
    pub const fn new() -> Self {
        Self {
            text: Vec::new(),
            fields: Vec::new(),
            dead: 0,
            seen: 0,
        }
    }

    /// Empties the list and keeps its buffers, so that the next message on the connection allocates nothing.
    pub fn clear(&mut self) {
        self.text.clear();
        self.fields.clear();
        self.dead = 0;
        self.seen = 0;
    }

    /// Makes room for so many more fields with so many bytes of text together.
    pub fn reserve(&mut self, fields: usize, bytes: usize) {
        self.fields.reserve(fields);
        self.text.reserve(bytes);
    }

    /// Gives memory back when the buffers have grown beyond `bytes` of text (between two messages).
    pub fn shrink(&mut self, bytes: usize) {
        if self.text.capacity() > bytes {
            self.text.shrink_to(bytes);
        }
    }

    /// Adds a field at the end. The name may be in any case and is kept in lower case.
    ///
    /// # Errors
    /// See [`InvalidHeader`]; the list is unchanged then.
    pub fn push(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), InvalidHeader> {
        let (name, value) = (name.as_ref(), value.as_ref());
        if !is_token(name) || name.len() > Self::MAX_NAME {
            return Err(InvalidHeader::Name);
        }
        if !is_value(value) {
            return Err(InvalidHeader::Value);
        }
        self.push_parsed(name, value)
    }

    /// The same as [`Headers::push`], under the name that header plugins use for "add, whatever is there".
    ///
    /// # Errors
    /// See [`InvalidHeader`].
    pub fn append(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), InvalidHeader> {
        self.push(name, value)
    }

    /// Adds a field that a parser has already judged by the same grammar: only sizes are checked.
    ///
    /// # Errors
    /// [`InvalidHeader::TooLarge`], or [`InvalidHeader::Name`] for a name over [`Headers::MAX_NAME`].
    pub fn push_parsed(&mut self, name: &[u8], value: &[u8]) -> Result<(), InvalidHeader> {
        debug_assert!(is_token(name) && is_value(value));
        let len = name.len() + SEPARATOR.len() + value.len() + LINE_END.len();
        self.make_room(name.len(), len)?;
        let record = self.write(name, value);
        self.fields.push(record);
        Ok(())
    }

    /// The same for a field in the form in which it is kept, `name: value CR LF`, but for the case of the name.
    ///
    /// # Errors
    /// See [`Headers::push_parsed`].
    pub fn push_line(&mut self, line: &[u8], name_len: usize) -> Result<(), InvalidHeader> {
        debug_assert!(
            line.get(name_len..)
                .is_some_and(|l| l.starts_with(SEPARATOR))
        );
        debug_assert!(line.ends_with(LINE_END));
        self.make_room(name_len, line.len())?;
        let at = self.text.len();
        self.text.extend_from_slice(line);
        let record = self.record(at, name_len);
        self.fields.push(record);
        Ok(())
    }

    /// Room for another field of this length.
    fn make_room(&mut self, name_len: usize, len: usize) -> Result<(), InvalidHeader> {
        if name_len > Self::MAX_NAME {
            return Err(InvalidHeader::Name);
        }
        if self.text.len() + len > Self::MAX_BYTES {
            self.compact();
        }
        if self.text.len() + len > Self::MAX_BYTES || self.fields.len() >= Self::MAX_FIELDS {
            return Err(InvalidHeader::TooLarge);
        }
        Ok(())
    }

    /// Appends the text of one field; the caller places the record.
    fn write(&mut self, name: &[u8], value: &[u8]) -> Record {
        let at = self.text.len();
        self.text
            .reserve(name.len() + value.len() + SEPARATOR.len() + LINE_END.len());
        self.text.extend_from_slice(name);
        self.text.extend_from_slice(SEPARATOR);
        self.text.extend_from_slice(value);
        self.text.extend_from_slice(LINE_END);
        self.record(at, name.len())
    }

    /// Brings the name of the last field, whose text begins at `at`, into lower case and recognises it.
    fn record(&mut self, at: usize, name_len: usize) -> Record {
        let value_len = self.text.len() - at - name_len - SEPARATOR.len() - LINE_END.len();
        let name = self.text.get_mut(at..at + name_len).unwrap_or_default();
        name.make_ascii_lowercase();
        let known = Known::of(name);
        self.seen |= known.bit();
        // The lengths fit: a list is at most MAX_BYTES, a name at most MAX_NAME.
        Record {
            at: at as u32,
            name_len: name_len as u16,
            value_len: value_len as u32,
            known,
        }
    }

    /// The value of the first field of this (lower-case) name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let name = name.as_bytes();
        let field = self.fields.iter().find(|r| self.name_of(**r) == name)?;
        Some(self.value_of(*field))
    }

    /// The values of all fields of this (lower-case) name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> + 'a {
        let name = name.as_bytes();
        self.fields
            .iter()
            .filter(move |r| self.name_of(**r) == name)
            .map(|r| self.value_of(*r))
    }

    /// The value of the first field with this id: the fast way to ask for a well-known name.
    pub fn get_known(&self, known: Known) -> Option<&[u8]> {
        if self.seen & known.bit() == 0 {
            return None;
        }
        self.fields
            .iter()
            .find(|r| r.known == known)
            .map(|r| self.value_of(*r))
    }

    /// The value of the first cookie of this name in all Cookie fields, as it was sent: neither decoded nor unquoted
    /// (RFC 6265 section 5.4). Names are case-sensitive.
    pub fn cookie(&self, name: &str) -> Option<&[u8]> {
        if self.seen & Known::Cookie.bit() == 0 {
            return None;
        }
        let lines = self.fields.iter().filter(|r| r.known == Known::Cookie);
        lines
            .flat_map(|r| self.value_of(*r).split(|b| *b == b';'))
            .find_map(|pair| {
                let rest = pair.trim_ascii().strip_prefix(name.as_bytes())?;
                Some(rest.trim_ascii_start().strip_prefix(b"=")?.trim_ascii())
            })
    }

    /// Whether a field with this id is there.
    pub fn contains_known(&self, known: Known) -> bool {
        self.get_known(known).is_some()
    }

    /// Whether a field of this (lower-case) name is there.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Replaces all fields of this name by one, which stands where the first of them stood, or at the end.
    ///
    /// # Errors
    /// See [`InvalidHeader`]; the list is unchanged then.
    pub fn set(
        &mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<(), InvalidHeader> {
        let (name, value) = (name.as_ref(), value.as_ref());
        let same = |h: &Self, r: &Record| h.name_of(*r).eq_ignore_ascii_case(name);
        let Some(first) = self.fields.iter().position(|r| same(self, r)) else {
            return self.push(name, value);
        };
        if !is_value(value) {
            return Err(InvalidHeader::Value);
        }
        let len = name.len() + SEPARATOR.len() + value.len() + LINE_END.len();
        if self.text.len() + len > Self::MAX_BYTES {
            self.compact();
            if self.text.len() + len > Self::MAX_BYTES {
                return Err(InvalidHeader::TooLarge);
            }
        }
        let mut index = 0;
        self.drop_records(|h, r| {
            index += 1;
            index - 1 > first && same(h, r)
        });
        let record = self.write(name, value);
        if let Some(slot) = self.fields.get_mut(first) {
            self.dead += slot.len();
            *slot = record;
        }
        Ok(())
    }

    /// Removes all fields of this (lower-case) name; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        self.drop_records(|h, r| h.name_of(*r) == name.as_bytes())
    }

    /// Removes all fields with this id; says whether there was one. [`Known::Other`] removes nothing.
    pub fn remove_known(&mut self, known: Known) -> bool {
        known != Known::Other
            && self.seen & known.bit() != 0
            && self.drop_records(|_, r| r.known == known)
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &[u8]) -> bool) {
        self.drop_records(|h, r| !keep(as_name(h.name_of(*r)), h.value_of(*r)));
    }

    fn drop_records(&mut self, mut gone: impl FnMut(&Self, &Record) -> bool) -> bool {
        let mut fields = std::mem::take(&mut self.fields);
        let mut dead = 0;
        fields.retain(|r| {
            let drop = gone(self, r);
            if drop {
                dead += r.len();
            }
            !drop
        });
        self.fields = fields;
        self.dead += dead;
        if self.fields.is_empty() {
            self.clear();
        }
        dead > 0
    }

    /// The fields in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields
            .iter()
            .map(|r| (as_name(self.name_of(*r)), self.value_of(*r)))
    }

    /// The fields in order that may be forwarded: all but [`Known::is_hop_by_hop`].
    pub fn iter_end_to_end(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let end_to_end = self.fields.iter().filter(|r| !r.known.is_hop_by_hop());
        end_to_end.map(|r| (as_name(self.name_of(*r)), self.value_of(*r)))
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of all fields in their HTTP/1 form.
    pub fn byte_len(&self) -> usize {
        self.text.len() - self.dead
    }

    /// Writes all fields as HTTP/1 does, without the empty line at the end.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        self.write_where(out, |_| true);
    }

    /// Writes the fields that may be forwarded: all but [`Known::is_hop_by_hop`].
    pub fn write_end_to_end(&self, out: &mut Vec<u8>) {
        self.write_where(out, |r| !r.known.is_hop_by_hop());
    }

    fn write_where(&self, out: &mut Vec<u8>, take: impl Fn(&Record) -> bool) {
        if self.dead == 0 && (self.seen & HOP_BY_HOP == 0 || self.fields.iter().all(&take)) {
            out.extend_from_slice(&self.text);
            return;
        }
        for r in self.fields.iter().filter(|r| take(r)) {
            out.extend_from_slice(self.text.get(r.at as usize..r.end()).unwrap_or_default());
        }
    }

    /// Brings text and records into the same order without gaps.
    fn compact(&mut self) {
        if self.dead == 0 {
            return;
        }
        let mut text = Vec::with_capacity(self.byte_len());
        for r in &mut self.fields {
            let at = text.len() as u32;
            text.extend_from_slice(self.text.get(r.at as usize..r.end()).unwrap_or_default());
            r.at = at;
        }
        self.text = text;
        self.dead = 0;
    }

    fn name_of(&self, r: Record) -> &[u8] {
        self.text
            .get(r.at as usize..r.name_end())
            .unwrap_or_default()
    }

    fn value_of(&self, r: Record) -> &[u8] {
        self.text
            .get(r.value_start()..r.value_end())
            .unwrap_or_default()
    }
}

/// Names are tokens, hence ASCII.
fn as_name(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or_default()
}

impl Clone for Headers {
    fn clone(&self) -> Self {
        let mut copy = Self {
            text: self.text.clone(),
            fields: self.fields.clone(),
            dead: self.dead,
            seen: self.seen,
        };
        copy.compact();
        copy
    }

    fn clone_from(&mut self, source: &Self) {
        self.text.clone_from(&source.text);
        self.fields.clone_from(&source.fields);
        self.dead = source.dead;
        self.seen = source.seen;
    }
}

/// Same fields in the same order.
impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}
impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for r in &self.fields {
            let name = as_name(self.name_of(*r));
            if r.known.is_secret() {
                list.entry(&format_args!("{name}: [redacted]"));
            } else {
                list.entry(&format_args!(
                    "{name}: {}",
                    self.value_of(*r).escape_ascii()
                ));
            }
        }
        list.finish()
    }
}

/// Whether `name` is a token (RFC 9110 section 5.6.2).
pub fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| TOKEN[usize::from(*b)])
}

/// Whether `value` may stand in a field: visible bytes, space, tab and obs-text (RFC 9110 section 5.5), without
/// white space at either end.
pub fn is_value(value: &[u8]) -> bool {
    let edge = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
    !edge(value.first())
        && !edge(value.last())
        && value
            .iter()
            .all(|b| *b >= 0x20 && *b != 0x7f || *b == b'\t')
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut b = 0;
    while b < 256 {
        table[b] = matches!(b as u8, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_'
            | b'`' | b'|' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z');
        b += 1;
    }
    table
};

#[cfg(test)]
#[path = "headers_tests.rs"]
mod tests;
