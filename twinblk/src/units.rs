//! Sizes as people type and read them: powers of two with K, M, G, T.

use std::fmt;
use std::str::FromStr;

const UNITS: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

/// A number of bytes, typed and printed with a unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Size(pub(crate) u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        let wrong = || format!("`{text}` is no size: write a number and K, M, G or T, as in 10G");
        let upper = text.trim().to_ascii_uppercase();
        let unit = UNITS.iter().find(|(letter, _)| upper.ends_with(*letter));
        let (digits, shift) = unit.map_or((upper.as_str(), 0), |(_, shift)| {
            (&upper[..upper.len() - 1], *shift)
        });
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let number: u64 = digits.parse().map_err(|_| wrong())?;
        number
            .checked_mul(1 << shift)
            .map(Size)
            .ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, shift) in UNITS {
            let unit = 1u64 << shift;
            if self.0 >= unit {
                let (whole, rest) = (self.0 / unit, self.0 % unit);
                let tenth = (u128::from(rest) * 10) >> shift;
                return f.pad(&if tenth == 0 {
                    format!("{whole}{letter}")
                } else {
                    format!("{whole}.{tenth}{letter}")
                });
            }
        }
        f.pad(&self.0.to_string())
    }
}

#[cfg(test)]
mod tests;
