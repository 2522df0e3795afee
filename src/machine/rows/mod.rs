//! How rows are laid out as bytes: one file for each record type, its layout drawn above it.
//!
//! What all layouts share is here. Numbers in row keys are big-endian and of fixed width, so that
//! rows are ordered as the numbers are. Numbers in rows are varints: seven bits a byte, lowest
//! first, the high bit set on all but the last byte, and no longer than needed.
//!
//! Decoding is strict: bytes that are missing, left over or out of bounds are a [`TableError`]
//! that names the table, never a panic and never a guess. The version of all layouts together is
//! the first byte of the counters row (see [`meta`]), which every command reads anyway.

mod forms;
pub(crate) mod history;
pub(crate) mod keys;
pub(crate) mod leases;
pub(crate) mod meta;
pub(crate) mod sessions;

use super::tables::{Table, TableError};

pub use forms::FORMS;

/// Appends a varint.
pub(crate) fn write_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Damage in a table, told by what is wrong.
pub(crate) fn corrupt(table: Table, what: &str) -> TableError {
    TableError::corrupt(format!("table {table:?}: {what}"))
}

/// Takes a row, or its key, apart from the front.
pub(crate) struct Reader<'a> {
    table: Table,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(table: Table, bytes: &'a [u8]) -> Self {
        Reader { table, rest: bytes }
    }

    pub(crate) fn corrupt(&self, what: &str) -> TableError {
        corrupt(self.table, what)
    }

    pub(crate) fn bytes(&mut self, len: u64) -> Result<&'a [u8], TableError> {
        match usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len)) {
            Some((bytes, rest)) => {
                self.rest = rest;
                Ok(bytes)
            }
            None => Err(self.corrupt("a row is cut short")),
        }
    }

    pub(crate) fn byte(&mut self) -> Result<u8, TableError> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn u32_be(&mut self) -> Result<u32, TableError> {
        match self.bytes(4)?.try_into() {
            Ok(bytes) => Ok(u32::from_be_bytes(bytes)),
            Err(_) => Err(self.corrupt("a number is cut short")),
        }
    }

    pub(crate) fn u64_be(&mut self) -> Result<u64, TableError> {
        match self.bytes(8)?.try_into() {
            Ok(bytes) => Ok(u64::from_be_bytes(bytes)),
            Err(_) => Err(self.corrupt("a number is cut short")),
        }
    }

    pub(crate) fn varint(&mut self) -> Result<u64, TableError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(self.corrupt("a number is too large"));
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(self.corrupt("a number is longer than needed"));
                }
                return Ok(number);
            }
        }
        Err(self.corrupt("a number is too long"))
    }

    /// All that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<(), TableError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt("a row has bytes left over")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_read_back_and_refuse_other_spellings() {
        for number in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u64::MAX - 1, u64::MAX] {
            let mut bytes = Vec::new();
            write_varint(&mut bytes, number);
            let mut reader = Reader::new(Table::Meta, &bytes);
            assert_eq!(reader.varint(), Ok(number));
            assert_eq!(reader.end(), Ok(()));
        }
        let read = |bytes: &[u8]| Reader::new(Table::Meta, bytes).varint();
        assert!(read(&[]).is_err());
        assert!(read(&[0x80]).is_err());
        assert!(read(&[0x80, 0x00]).is_err(), "longer than needed");
        assert!(read(&[0xff; 9]).is_err(), "cut short");
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).is_err());
        assert!(read(&[0xff; 11]).is_err(), "more than 64 bits");
    }
}
