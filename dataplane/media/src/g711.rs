//! G.711: 8 kHz speech in 8 bits per sample, u-law and A-law (ITU-T G.711, tables 1 and 2).
//! Owns:  `Law`, the decoding tables (made at compile time), the encoders.
//! Gives: 16-bit linear samples and back.
//! Never: allocates, keeps state.
//! Holds: a code that is decoded and encoded again is the same code, but for the second zero of
//!        u-law.

/// Which of the two laws.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Law {
    /// PCMA, payload type 8 (RFC 3551 6): Europe and international links.
    A,
    /// PCMU, payload type 0 (RFC 3551 6): North America and Japan.
    U,
}

/// Sampling rate of both laws.
pub const RATE: u32 = 8_000;

const A_TABLE: [i16; 256] = table(Law::A);
const U_TABLE: [i16; 256] = table(Law::U);
/// G.711 table 2a: decision values are offset by 33 in 14-bit units, so that every segment of
/// u-law is a power of two long.
const U_BIAS: i16 = 33;
/// Largest biased magnitude of 14 bits.
const U_MAGNITUDE_MAX: i16 = 0x1fff;
/// Every second bit of A-law is inverted on the line (G.711 table 1a, note 2).
const A_EVEN_BITS: u8 = 0x55;

impl Law {
    /// By static payload type (RFC 3551 table 4).
    pub const fn of_payload_type(payload_type: u8) -> Option<Self> {
        match payload_type {
            0 => Some(Self::U),
            8 => Some(Self::A),
            _ => None,
        }
    }

    pub const fn payload_type(self) -> u8 {
        match self {
            Self::A => 8,
            Self::U => 0,
        }
    }

    /// The code of no sound.
    pub const fn silence(self) -> u8 {
        self.encode(0)
    }

    pub const fn decode(self, code: u8) -> i16 {
        match self {
            Self::A => A_TABLE[code as usize],
            Self::U => U_TABLE[code as usize],
        }
    }

    pub const fn encode(self, sample: i16) -> u8 {
        match self {
            Self::A => encode_a(sample),
            Self::U => encode_u(sample),
        }
    }

    /// Appends the samples of a payload.
    pub fn decode_into(self, payload: &[u8], out: &mut Vec<i16>) {
        out.extend(payload.iter().map(|&code| self.decode(code)));
    }

    /// Appends the codes of samples.
    pub fn encode_into(self, samples: &[i16], out: &mut Vec<u8>) {
        out.extend(samples.iter().map(|&sample| self.encode(sample)));
    }
}

const fn table(law: Law) -> [i16; 256] {
    let mut values = [0; 256];
    let mut code: u8 = 0;
    loop {
        values[code as usize] = match law {
            Law::A => decode_a(code),
            Law::U => decode_u(code),
        };
        if code == u8::MAX {
            return values;
        }
        code += 1;
    }
}

/// Middle of the interval: (mantissa + 33/2) * 2^(segment + 1), less the bias, in 14-bit units.
const fn decode_u(code: u8) -> i16 {
    let bits = !code;
    let segment = (bits >> 4) & 7;
    let mantissa = (bits & 0x0f) as i16;
    let magnitude = ((2 * mantissa + U_BIAS) << segment) - U_BIAS;
    let sample = magnitude * 4;
    if code & 0x80 == 0 { -sample } else { sample }
}

/// Middle of the interval: segments 0 and 1 share a step, each further one doubles it.
const fn decode_a(code: u8) -> i16 {
    let bits = code ^ A_EVEN_BITS;
    let segment = (bits >> 4) & 7;
    let mantissa = (bits & 0x0f) as i16;
    let middle = 2 * mantissa + 1;
    let magnitude = if segment == 0 { middle } else { (middle + 32) << (segment - 1) };
    let sample = magnitude * 8;
    if code & 0x80 == 0 { -sample } else { sample }
}

/// The 14 upper bits count. Negative samples are mirrored by inversion, so that -1 is a zero.
const fn encode_u(sample: i16) -> u8 {
    let positive = sample >= 0;
    let folded = if positive { sample } else { !sample };
    let magnitude = (folded >> 2) + U_BIAS;
    let magnitude = if magnitude > U_MAGNITUDE_MAX { U_MAGNITUDE_MAX } else { magnitude };
    // The highest bit set is 5 in segment 0 and 12 in segment 7.
    let segment = 10 - magnitude.leading_zeros();
    let mantissa = (magnitude >> (segment + 1)) & 0x0f;
    finish(positive, segment, mantissa) ^ 0x7f
}

/// The 13 upper bits count.
const fn encode_a(sample: i16) -> u8 {
    let positive = sample >= 0;
    let folded = if positive { sample } else { !sample };
    let magnitude = folded >> 4;
    // Steps of two 13-bit units have their highest bit at 4 or below, segment 7 has it at 10.
    let segment = 12_u32.saturating_sub(magnitude.leading_zeros());
    let mantissa = magnitude >> segment.saturating_sub(1);
    finish(positive, segment, mantissa & 0x0f) ^ A_EVEN_BITS
}

/// Sign, three bits of segment, four bits of mantissa.
#[expect(clippy::cast_possible_truncation, reason = "three and four bits")]
#[expect(clippy::cast_sign_loss, reason = "the mantissa is masked to four bits")]
const fn finish(positive: bool, segment: u32, mantissa: i16) -> u8 {
    ((positive as u8) << 7) | ((segment as u8) << 4) | mantissa as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_decoding_and_encoding() {
        for code in 0..=255 {
            assert_eq!(Law::A.encode(Law::A.decode(code)), code, "A-law {code:#04x}");
            // u-law has two zeros; the negative one comes back as the positive one.
            let expected = if code == 0x7f { 0xff } else { code };
            assert_eq!(Law::U.encode(Law::U.decode(code)), expected, "u-law {code:#04x}");
        }
    }

    /// Decoder output values of G.711 table 1a (x 8) and table 2a (x 4), at the ends of segments.
    #[test]
    fn decoded_values_are_those_of_the_tables() {
        let a_law = [
            (0xd5, 1),
            (0xd4, 3),
            (0xda, 31),
            (0xc5, 33),
            (0xca, 63),
            (0xf5, 66),
            (0xe5, 132),
            (0x95, 264),
            (0x85, 528),
            (0xb5, 1_056),
            (0xa5, 2_112),
            (0xaa, 4_032),
        ];
        for (code, value) in a_law {
            assert_eq!(Law::A.decode(code), value * 8, "{code:#04x}");
            assert_eq!(Law::A.decode(code ^ 0x80), -value * 8, "{code:#04x}");
        }
        let u_law = [
            (0xff, 0),
            (0xfe, 2),
            (0xf0, 30),
            (0xef, 33),
            (0xdf, 99),
            (0xcf, 231),
            (0xbf, 495),
            (0xaf, 1_023),
            (0x9f, 2_079),
            (0x8f, 4_191),
            (0x80, 8_031),
        ];
        for (code, value) in u_law {
            assert_eq!(Law::U.decode(code), value * 4, "{code:#04x}");
            assert_eq!(Law::U.decode(code ^ 0x80), -value * 4, "{code:#04x}");
        }
    }

    /// Decision values of tables 1a and 2a: a sample at the value belongs to the outer interval.
    #[test]
    fn encoding_switches_at_the_decision_values_of_the_tables() {
        for (law, shift, decisions) in [
            (Law::A, 3, [2, 4, 62, 64, 128, 256, 512, 1_024, 2_048, 3_968].as_slice()),
            (Law::U, 2, [1, 3, 31, 35, 95, 223, 479, 991, 2_015, 4_063, 7_903].as_slice()),
        ] {
            for decision in decisions {
                let at = decision << shift;
                let (below, above) = (law.encode(at - 1), law.encode(at));
                assert_ne!(below, above, "{law:?} {decision}");
                assert!(law.decode(below) < at && law.decode(above) >= at, "{law:?} {decision}");
            }
        }
    }

    /// The sign is the sign bit of the sample, so magnitudes are inverted and not negated: a
    /// negative sample at a decision value belongs to the inner interval (ITU-T G.191).
    #[test]
    fn negative_samples_are_mirrored_by_inversion() {
        assert_eq!([-1, -4, -5].map(|sample| Law::U.encode(sample)), [0x7f, 0x7f, 0x7e]);
        assert_eq!([-1, -16, -17].map(|sample| Law::A.encode(sample)), [0x55, 0x55, 0x54]);
        for sample in 0..=i16::MAX {
            for law in [Law::A, Law::U] {
                assert_eq!(law.encode(sample), law.encode(!sample) ^ 0x80, "{law:?} {sample}");
            }
        }
    }

    /// Every sample goes to the nearest code: no further away than half of its interval.
    #[test]
    fn no_code_is_nearer_than_the_one_chosen() {
        for law in [Law::A, Law::U] {
            let mut values: Vec<i32> = (0..=255).map(|code| law.decode(code).into()).collect();
            values.sort_unstable();
            for sample in i16::MIN..=i16::MAX {
                let error = (i32::from(law.decode(law.encode(sample))) - i32::from(sample)).abs();
                let above = values.partition_point(|&value| value < i32::from(sample));
                let neighbours = &values[above.saturating_sub(1)..(above + 1).min(256)];
                let best = neighbours.iter().map(|v| (v - i32::from(sample)).abs()).min().unwrap();
                // Decision values lie between unequal intervals, not always half way, and samples
                // have more bits than the tables: 2 or 3 bits may be in between.
                let slack = i32::from(sample).abs() / 32 + 8;
                assert!(error <= best + slack, "{law:?} {sample}: {error} but {best} is possible");
            }
        }
    }

    #[test]
    fn encoding_never_decreases_with_the_sample() {
        for law in [Law::A, Law::U] {
            let decoded: Vec<i16> =
                (i16::MIN..=i16::MAX).map(|sample| law.decode(law.encode(sample))).collect();
            assert!(decoded.is_sorted(), "{law:?}");
        }
    }

    /// Tables 5 and 6: eight codes of a 1 kHz sine at 0 dBm0, which is 3.14 dB (A) or 3.17 dB (u)
    /// below the largest sine of the law.
    #[test]
    fn the_reference_sequences_are_a_sine_at_0_dbm0() {
        let a_codes = [0x34, 0x21, 0x21, 0x34, 0xb4, 0xa1, 0xa1, 0xb4];
        let u_codes = [0x1e, 0x0b, 0x0b, 0x1e, 0x9e, 0x8b, 0x8b, 0x9e];
        for (law, codes, full, level) in
            [(Law::A, a_codes, 4_096.0 * 8.0, -314), (Law::U, u_codes, 8_159.0 * 4.0, -317)]
        {
            let samples: Vec<i16> = codes.iter().map(|&code| law.decode(code)).collect();
            let power = crate::tone::goertzel_power(&samples, 1_000.0);
            let decibel = 10.0 * (power / (full * full / 2.0)).log10();
            let expected = f64::from(level) / 100.0;
            assert!((decibel - expected).abs() < 0.02, "{law:?}: {decibel} dB");
            let mut again = Vec::new();
            law.encode_into(&samples, &mut again);
            assert_eq!(again, codes);
        }
    }

    #[test]
    fn the_loudest_samples_do_not_wrap() {
        assert_eq!((Law::A.encode(i16::MAX), Law::A.encode(i16::MIN)), (0xaa, 0x2a));
        assert_eq!((Law::U.encode(i16::MAX), Law::U.encode(i16::MIN)), (0x80, 0x00));
    }
}
