//! Finding the packets of a read buffer where they lie.

/// One packet at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the fixed header.
    pub header: usize,
    /// Bytes of the whole packet.
    pub length: usize,
}

/// The peer sent a Remaining Length of more than four bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct BadLength;

/// The packet at the front of `input`, or None as long as it is not whole.
#[inline(always)]
pub fn first(input: &[u8]) -> Result<Option<Frame>, BadLength> {
    if input.len() < 2 {
        return Ok(None);
    }
    let frame = if input[1] < 0x80 {
        Frame { header: 2, length: 2 + usize::from(input[1]) }
    } else {
        match long(input)? {
            Some(frame) => frame,
            None => return Ok(None),
        }
    };
    Ok((input.len() >= frame.length).then_some(frame))
}

fn long(input: &[u8]) -> Result<Option<Frame>, BadLength> {
    let mut length = 0;
    for at in 1..5 {
        let Some(&byte) = input.get(at) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        if byte < 0x80 {
            return Ok(Some(Frame { header: at + 1, length: at + 1 + length }));
        }
    }
    Err(BadLength)
}

/// Bytes of one connection between two reads: the beginning of a packet whose end has not come yet.
///
/// The read buffer belongs to the thread; a connection keeps only what is left over, usually nothing.
#[derive(Debug, Default)]
pub struct Rest(Vec<u8>);

impl Rest {
    /// Copies the left-over bytes to the front of `buffer` and returns how many they are.
    #[inline]
    pub fn restore(&mut self, buffer: &mut Vec<u8>) -> usize {
        let length = self.0.len();
        if length > 0 {
            if buffer.len() < 2 * length {
                buffer.resize(2 * length, 0);
            }
            buffer[..length].copy_from_slice(&self.0);
            self.0.clear();
        }
        length
    }

    /// Keeps the left-over bytes.
    #[inline]
    pub fn keep(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.0.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_found_whole_partial_and_broken() {
        assert_eq!(first(&[]), Ok(None));
        assert_eq!(first(&[0xD0]), Ok(None));
        assert_eq!(first(&[0xD0, 0]), Ok(Some(Frame { header: 2, length: 2 })));
        assert_eq!(first(&[0x40, 2, 0]), Ok(None));
        let mut long = vec![0x30, 0x80, 0x01];
        assert_eq!(first(&long), Ok(None));
        long.resize(131, 0);
        assert_eq!(first(&long), Ok(Some(Frame { header: 3, length: 131 })));
        assert_eq!(first(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]), Err(BadLength));
    }

    #[test]
    fn rest_comes_back_before_the_next_bytes() {
        let mut rest = Rest::default();
        rest.keep(b"ab");
        let mut buffer = vec![0; 3];
        assert_eq!(rest.restore(&mut buffer), 2);
        assert_eq!(&buffer[..2], b"ab");
        assert_eq!(rest.restore(&mut buffer), 0);
    }
}
