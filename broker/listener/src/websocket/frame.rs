//! WebSocket framing, in place and without a buffer of its own: frame headers are cut out of the bytes as they come, payloads are unmasked and moved
//! together. Frames may be split anywhere; nothing is kept but a header's or a control frame's unfinished part.

/// The longest header of a frame from a client: 2 bytes, 8 of length, 4 of mask.
const MAX_HEADER: usize = 14;
/// The longest payload of a control frame.
pub const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// More of the message that was begun.
    Continuation = 0x0,
    /// A text message, which MQTT does not use.
    Text = 0x1,
    /// A binary message.
    Binary = 0x2,
    /// The peer closes.
    Close = 0x8,
    /// Asks for a pong.
    Ping = 0x9,
    /// Answers a ping.
    Pong = 0xa,
}

impl Opcode {
    fn is_control(self) -> bool {
        self as u8 & 0x8 != 0
    }
}

/// Why the connection has to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// [MQTT-6.0.0-1] MQTT Control Packets travel in binary frames.
    #[error("a WebSocket text frame")]
    Text,
    /// A frame that the protocol forbids.
    #[error("{0}")]
    Protocol(&'static str),
}

impl FrameError {
    /// What the close frame tells the peer.
    pub fn close_code(self) -> u16 {
        match self {
            FrameError::Text => 1003,
            FrameError::Protocol(_) => 1002,
        }
    }
}

/// A control frame, unmasked.
#[derive(Debug, PartialEq, Eq)]
pub struct Control<'a> {
    /// Close, ping or pong.
    pub opcode: Opcode,
    /// At most [`MAX_CONTROL`] bytes.
    pub payload: &'a [u8],
}

/// What came of the bytes given to [`Decoder::decode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// So many bytes of application data stand at the front of the buffer now.
    pub data: usize,
    /// What follows them could not be decoded; the decoder takes nothing more.
    pub error: Option<FrameError>,
}

/// Decodes what a client sends.
#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; MAX_HEADER],
    header_filled: u8,
    mask: [u8; 4],
    frame: Option<Frame>,
    /// A message was begun and not ended.
    in_message: bool,
    /// A close frame came or an error was found: all that follows is ignored.
    ended: bool,
    /// The payload so far of a control frame that came in pieces.
    control: Vec<u8>,
}

/// The frame whose payload is being taken.
#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: Opcode,
    left: u64,
}

impl Decoder {
    /// Takes all of `buffer`, leaves the application data at its front, and hands over control frames in between.
    pub fn decode(&mut self, buffer: &mut [u8], mut on_control: impl FnMut(Control<'_>)) -> Decoded {
        let (mut read, mut data) = (0, 0);
        loop {
            if self.ended {
                return Decoded { data, error: None };
            }
            let Some(frame) = self.frame else {
                match self.take_header(&buffer[read..]) {
                    Ok(taken) => read += taken,
                    Err(error) => {
                        self.ended = true;
                        return Decoded { data, error: Some(error) };
                    }
                }
                if self.frame.is_none() {
                    return Decoded { data, error: None };
                }
                continue;
            };
            let taken = usize::try_from(frame.left).unwrap_or(usize::MAX).min(buffer.len() - read);
            let payload = &mut buffer[read..read + taken];
            unmask(payload, self.mask);
            self.mask.rotate_left(taken % 4);
            let left = frame.left - taken as u64;
            if frame.opcode.is_control() {
                if left > 0 || !self.control.is_empty() {
                    self.control.extend_from_slice(payload);
                }
                if left == 0 {
                    let payload = if self.control.is_empty() { &*payload } else { &self.control[..] };
                    match frame.opcode {
                        Opcode::Close if !is_close_payload(payload) => {
                            self.ended = true;
                            return Decoded { data, error: Some(FrameError::Protocol("a malformed WebSocket close frame")) };
                        }
                        opcode => on_control(Control { opcode, payload }),
                    }
                    self.ended = frame.opcode == Opcode::Close;
                    self.control = Vec::new();
                }
            } else {
                buffer.copy_within(read..read + taken, data);
                data += taken;
            }
            read += taken;
            self.frame = (left > 0).then_some(Frame { left, ..frame });
            if left > 0 {
                return Decoded { data, error: None };
            }
        }
    }

    /// Takes header bytes from the front of `input` and begins the frame when the header is whole. Returns how many it took.
    fn take_header(&mut self, input: &[u8]) -> Result<usize, FrameError> {
        let protocol = |what| Err(FrameError::Protocol(what));
        for (at, &byte) in input.iter().enumerate() {
            self.header[usize::from(self.header_filled)] = byte;
            self.header_filled += 1;
            match self.header_filled {
                1 => self.check_first(byte)?,
                2 if byte & MASKED == 0 => return protocol("a WebSocket frame that is not masked"),
                2 if self.header[0] & 0x08 != 0 && usize::from(byte & !MASKED) > MAX_CONTROL => {
                    return protocol("a WebSocket control frame that is too long");
                }
                2..=5 => {}
                filled => {
                    let short = self.header[1] & !MASKED;
                    let length_bytes = match short {
                        126 => 2,
                        127 => 8,
                        _ => 0,
                    };
                    if usize::from(filled) == 2 + length_bytes + 4 {
                        self.begin_frame(short, length_bytes)?;
                        return Ok(at + 1);
                    }
                }
            }
        }
        Ok(input.len())
    }

    fn check_first(&mut self, byte: u8) -> Result<(), FrameError> {
        let protocol = |what| Err(FrameError::Protocol(what));
        if byte & RESERVED != 0 {
            return protocol("reserved bits in a WebSocket frame");
        }
        match opcode(byte) {
            None => protocol("an unknown WebSocket opcode"),
            Some(Opcode::Text) => Err(FrameError::Text),
            Some(opcode) if opcode.is_control() && byte & FIN == 0 => protocol("a WebSocket control frame in fragments"),
            Some(Opcode::Continuation) if !self.in_message => protocol("a WebSocket continuation of nothing"),
            Some(Opcode::Binary) if self.in_message => protocol("a WebSocket message within another"),
            Some(_) => Ok(()),
        }
    }

    fn begin_frame(&mut self, short: u8, length_bytes: usize) -> Result<(), FrameError> {
        let (length, mask) = self.header[2..usize::from(self.header_filled)].split_at(length_bytes);
        let left = match length_bytes {
            0 => u64::from(short),
            _ => length.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)),
        };
        let shortest = match length_bytes {
            0 => 0,
            2 => 126,
            _ => 65536,
        };
        if left < shortest || left > i64::MAX as u64 {
            return Err(FrameError::Protocol("a WebSocket frame length that is not allowed"));
        }
        self.mask.copy_from_slice(mask);
        let opcode = opcode(self.header[0]).expect("checked when the first byte came");
        if !opcode.is_control() {
            // [MQTT-6.0.0-2] Where messages begin and end does not matter: Control Packets are not aligned with them.
            self.in_message = self.header[0] & FIN == 0;
        }
        self.header_filled = 0;
        self.frame = Some(Frame { opcode, left });
        Ok(())
    }
}

fn opcode(byte: u8) -> Option<Opcode> {
    Some(match byte & 0x0f {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xa => Opcode::Pong,
        _ => return None,
    })
}

/// A close frame has no payload, or a code from the allowed ranges and a UTF-8 reason.
fn is_close_payload(payload: &[u8]) -> bool {
    match payload.split_first_chunk::<2>() {
        None => payload.is_empty(),
        Some((code, reason)) => {
            let code = u16::from_be_bytes(*code);
            let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            allowed && std::str::from_utf8(reason).is_ok()
        }
    }
}

fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    // Eight bytes at a time; the compiler makes vectors of it.
    let wide = u64::from_ne_bytes([mask[0], mask[1], mask[2], mask[3], mask[0], mask[1], mask[2], mask[3]]);
    let (chunks, rest) = payload.as_chunks_mut::<8>();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.into_iter().cycle()) {
        *byte ^= mask;
    }
}

/// The header of a frame that we send: whole and not masked. Returns it and its length.
pub fn encode_header(opcode: Opcode, length: u64) -> ([u8; 10], usize) {
    let mut header = [0; 10];
    header[0] = FIN | opcode as u8;
    let used = match length {
        0..=125 => {
            header[1] = length as u8;
            2
        }
        126..=0xffff => {
            header[1] = 126;
            header[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&length.to_be_bytes());
            10
        }
    };
    (header, used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let (header, used) = encode_header(Opcode::Binary, payload.len() as u64);
        let mut bytes = header[..used].to_vec();
        bytes[0] = first;
        bytes[1] |= MASKED;
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    type Outcome = (Vec<u8>, Vec<(Opcode, Vec<u8>)>, Option<FrameError>);

    /// Decodes `bytes` in pieces of the given lengths (the last one again and again).
    fn decode(bytes: &[u8], pieces: &[usize]) -> Outcome {
        let (mut decoder, mut data, mut controls) = (Decoder::default(), Vec::new(), Vec::new());
        let (mut rest, mut pieces, mut piece) = (bytes, pieces.iter(), 1);
        while !rest.is_empty() {
            piece = *pieces.next().unwrap_or(&piece);
            let (now, later) = rest.split_at(piece.clamp(1, rest.len()));
            rest = later;
            let mut buffer = now.to_vec();
            let decoded = decoder.decode(&mut buffer, |control| controls.push((control.opcode, control.payload.to_vec())));
            data.extend(&buffer[..decoded.data]);
            if decoded.error.is_some() {
                return (data, controls, decoded.error);
            }
        }
        (data, controls, None)
    }

    #[test]
    fn a_text_frame_is_refused() {
        assert_eq!(decode(&frame(0x81, b"hello", [1, 2, 3, 4]), &[1]).2, Some(FrameError::Text));
        assert_eq!(FrameError::Text.close_code(), 1003);
    }

    #[test]
    fn what_the_protocol_forbids_is_refused() {
        let mask = [1, 2, 3, 4];
        let mut unmasked = frame(0x82, b"x", mask);
        unmasked[1] &= !MASKED;
        let mut wasteful = vec![0x82, 0x80 | 126, 0, 5];
        wasteful.extend([0; 9]);
        let mut huge = vec![0x82, 0x80 | 127];
        huge.extend([0xff; 12]);
        for bytes in [
            unmasked,
            wasteful,
            huge,
            frame(0xc2, b"x", mask),
            frame(0x83, b"x", mask),
            frame(0x80, b"x", mask),
            frame(0x09, b"x", mask),
            frame(0x89, &[0; 126], mask),
            [frame(0x02, b"x", mask), frame(0x82, b"x", mask)].concat(),
            frame(0x88, &[3], mask),
            frame(0x88, &[0x03, 0xed], mask),
            frame(0x88, &[0x03, 0xe8, 0xff], mask),
        ] {
            for piece in [1, 3, 1000] {
                let (_, _, error) = decode(&bytes, &[piece]);
                assert!(matches!(error, Some(FrameError::Protocol(_))), "{bytes:x?}: {error:?}");
            }
        }
    }

    #[test]
    fn data_before_a_forbidden_frame_is_kept() {
        let bytes = [frame(0x82, b"good", [9, 8, 7, 6]), frame(0x81, b"bad", [0; 4])].concat();
        let (data, _, error) = decode(&bytes, &[1000]);
        assert_eq!((data.as_slice(), error), (&b"good"[..], Some(FrameError::Text)));
    }

    #[test]
    fn nothing_is_taken_after_a_close_frame() {
        let bytes = [frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e'], [5; 4]), frame(0x82, b"late", [0; 4])].concat();
        let (data, controls, error) = decode(&bytes, &[1000]);
        assert_eq!((data.len(), error), (0, None));
        assert_eq!(controls, [(Opcode::Close, vec![0x03, 0xe8, b'b', b'y', b'e'])]);
    }

    #[test]
    fn control_frames_may_stand_between_fragments() {
        let mask = [0xa, 0xb, 0xc, 0xd];
        let bytes = [frame(0x02, b"one ", mask), frame(0x89, b"ping", mask), frame(0x8a, b"", mask), frame(0x80, b"two", mask)].concat();
        for piece in 1..bytes.len() {
            let (data, controls, error) = decode(&bytes, &[piece]);
            assert_eq!((data.as_slice(), error), (&b"one two"[..], None));
            assert_eq!(controls, [(Opcode::Ping, b"ping".to_vec()), (Opcode::Pong, Vec::new())]);
        }
    }

    #[test]
    fn a_frame_header_of_ours_has_the_shortest_length() {
        for (length, used) in [(0, 2), (125, 2), (126, 4), (65535, 4), (65536, 10), (u32::MAX as u64, 10)] {
            assert_eq!(encode_header(Opcode::Binary, length).1, used);
        }
    }

    proptest! {
        #[test]
        fn data_comes_out_as_it_went_in_however_it_is_split(
            messages in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<[u8; 4]>()), 1..6),
            pieces in prop::collection::vec(1usize..40, 1..40),
        ) {
            let bytes: Vec<u8> = messages.iter().flat_map(|(payload, mask)| frame(0x82, payload, *mask)).collect();
            let expected: Vec<u8> = messages.iter().flat_map(|(payload, _)| payload.clone()).collect();
            let (data, controls, error) = decode(&bytes, &pieces);
            prop_assert_eq!(data, expected);
            prop_assert!(controls.is_empty() && error.is_none());
        }

        #[test]
        fn any_bytes_give_no_more_data_than_they_are_and_the_same_in_pieces(bytes in prop::collection::vec(any::<u8>(), 0..400), piece in 1usize..20) {
            let whole = decode(&bytes, &[bytes.len().max(1)]);
            prop_assert!(whole.0.len() <= bytes.len());
            prop_assert_eq!(whole, decode(&bytes, &[piece]));
        }
    }
}
