//! VLAN tags: 4 bytes between the source address and the EtherType (IEEE 802.1Q, 9.6).
//!
//! A tag on the wire is its TPID (2 bytes, in the place of an EtherType), then the tag control
//! information (2 bytes). Seen from the parser, which has read the TPID as an EtherType, the tag's body
//! is the control information and the next EtherType.

/// TPID of a customer tag, 802.1Q.
pub const TPID_8021Q: u16 = 0x8100;
/// TPID of a service tag, 802.1ad (the outer of two).
pub const TPID_8021AD: u16 = 0x88a8;
/// Bytes that one tag adds to the frame.
pub const TAG_LEN: usize = 4;
/// The part of the control information that is the VLAN id.
pub const ID_MASK: u16 = 0x0fff;

/// Whether an EtherType announces a tag.
#[inline]
pub const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TPID_8021Q | TPID_8021AD)
}

/// What follows a TPID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Priority (3 bits), drop eligible (1), VLAN id (12).
    pub control: u16,
    /// EtherType of what the tag encloses: a protocol, or another tag.
    pub ethertype: u16,
}

impl Tag {
    /// Reads what follows a TPID; `None` if there are fewer than [`TAG_LEN`] bytes.
    #[inline]
    pub fn parse(body: &[u8]) -> Option<Self> {
        let [c0, c1, t0, t1] = *body.first_chunk()?;
        Some(Self { control: u16::from_be_bytes([c0, c1]), ethertype: u16::from_be_bytes([t0, t1]) })
    }

    /// Writes what follows a TPID.
    #[inline]
    pub fn emit(&self, body: &mut [u8; TAG_LEN]) {
        body[..2].copy_from_slice(&self.control.to_be_bytes());
        body[2..].copy_from_slice(&self.ethertype.to_be_bytes());
    }

    /// The VLAN id, 0 for a tag that carries only a priority.
    #[inline]
    pub const fn id(&self) -> u16 {
        self.control & ID_MASK
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parse_emit_round_trip(control: u16, ethertype: u16) {
            let tag = Tag { control, ethertype };
            let mut bytes = [0; TAG_LEN];
            tag.emit(&mut bytes);
            prop_assert_eq!(Tag::parse(&bytes), Some(tag));
            prop_assert_eq!(Tag::parse(&bytes[..TAG_LEN - 1]), None);
        }
    }

    #[test]
    fn layout() {
        let tag = Tag::parse(&[0xe0, 0x64, 0x08, 0x00]).unwrap();
        assert_eq!((tag.id(), tag.ethertype), (100, 0x0800));
        assert!(is_tag(0x8100) && is_tag(0x88a8) && !is_tag(0x0800));
    }
}
