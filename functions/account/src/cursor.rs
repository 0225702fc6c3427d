//! The wire format of cursors: opaque to callers, and valid only in the listing that returned them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credits_store::Fingerprint;
use credits_store::table::index::{Cursor, InvalidCursor};

/// The length of the fingerprint at the start of a cursor, in bytes.
const SEAL_BYTES: usize = 8;

/// The listing and workspace that a cursor is bound to. A cursor of another listing or workspace, or an altered one, is
/// refused.
///
/// The fingerprint has no key, so a caller can forge a cursor. That discloses nothing: a listing shows a workspace only
/// its own rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CursorScope<'a> {
    pub name: &'static str,
    pub workspace: &'a str,
}

impl CursorScope<'_> {
    /// Encodes a cursor for callers.
    pub fn write(self, place: &str) -> String {
        let sealed: Vec<u8> = self.seal(place).into_iter().chain(place.bytes()).collect();
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// Decodes the place that a cursor of this listing names.
    pub fn read(self, text: &str) -> Result<String, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let (seal, place) = bytes.split_at_checked(SEAL_BYTES).ok_or(InvalidCursor)?;
        let place = std::str::from_utf8(place).map_err(|_| InvalidCursor)?;
        if seal == self.seal(place) { Ok(place.to_owned()) } else { Err(InvalidCursor) }
    }

    /// Encodes a cursor of an index for callers.
    pub fn write_position(self, cursor: &Cursor) -> String {
        self.write(cursor.as_str())
    }

    /// Decodes the cursor of an index from an earlier answer.
    pub fn read_position(self, text: &str) -> Result<Cursor, InvalidCursor> {
        self.read(text)?.parse()
    }

    fn seal(self, place: &str) -> [u8; SEAL_BYTES] {
        let parts = [self.name, self.workspace, place].map(str::as_bytes);
        Fingerprint::of(&parts).bytes().first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::CursorScope;

    #[test]
    fn a_cursor_of_another_listing_or_altered_is_refused() {
        let listing = CursorScope { name: "ledger", workspace: "acme" };
        let cursor = listing.write("000001800000000#deb_1");
        assert_eq!(listing.read(&cursor).unwrap(), "000001800000000#deb_1");
        assert!(CursorScope { workspace: "other", ..listing }.read(&cursor).is_err());
        assert!(CursorScope { name: "runs", ..listing }.read(&cursor).is_err());
        for at in 0..cursor.len() {
            let mut altered = cursor.clone().into_bytes();
            altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(altered == cursor || listing.read(&altered).is_err(), "{at}");
        }
        assert!(listing.read("").is_err() && listing.read("%%%").is_err());
    }
}
