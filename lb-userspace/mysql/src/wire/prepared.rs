//! The answer to `COM_STMT_PREPARE`.

use super::Reader;

/// A statement that was prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Its id on that connection.
    pub statement: u32,
    /// Columns of its result; none for statements without one.
    pub columns: u16,
    /// Its parameters.
    pub parameters: u16,
    /// Number of warnings.
    pub warnings: u16,
    /// Whether columns and parameters are described in what follows.
    pub has_metadata: bool,
}

impl Prepared {
    /// Reads the first packet of the answer.
    #[must_use]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload.strip_prefix(&[0])?);
        let statement = reader.u32()?;
        let columns = reader.u16()?;
        let parameters = reader.u16()?;
        reader.u8()?;
        Some(Self {
            statement,
            columns,
            parameters,
            warnings: reader.u16()?,
            // Said only where it was agreed on that there may be none.
            has_metadata: reader.u8().is_none_or(|follows| follows != 0),
        })
    }

    /// Appends the payload; with the last byte where optional metadata were agreed on.
    pub fn put(&self, has_optional_metadata: bool, out: &mut Vec<u8>) {
        out.push(0);
        out.extend_from_slice(&self.statement.to_le_bytes());
        out.extend_from_slice(&self.columns.to_le_bytes());
        out.extend_from_slice(&self.parameters.to_le_bytes());
        out.push(0);
        out.extend_from_slice(&self.warnings.to_le_bytes());
        if has_optional_metadata {
            out.push(self.has_metadata.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_read_as_servers_send_it() {
        let packet = b"\0\x01\0\0\0\x02\0\x03\0\0\x04\0";
        let prepared = Prepared {
            statement: 1,
            columns: 2,
            parameters: 3,
            warnings: 4,
            has_metadata: true,
        };
        assert_eq!(Prepared::read(packet), Some(prepared));
        let without = Prepared {
            has_metadata: false,
            ..prepared
        };
        assert_eq!(
            Prepared::read(b"\0\x01\0\0\0\x02\0\x03\0\0\x04\0\0"),
            Some(without)
        );
        assert_eq!(Prepared::read(&packet[..11]), None);
        assert_eq!(Prepared::read(b"\xff\x10\x04#HY000Something"), None);
    }

    proptest! {
        #[test]
        fn what_is_made_is_read(
            statement: u32, columns: u16, parameters: u16, warnings: u16, has_metadata: bool
        ) {
            let made = Prepared { statement, columns, parameters, warnings, has_metadata };
            let mut out = Vec::new();
            made.put(true, &mut out);
            prop_assert_eq!(Prepared::read(&out), Some(made));
        }
    }
}
