//! Symbolic extents: polynomials with integer coefficients in named symbols. They allow shape inference while a graph is written.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Add, Mul, Sub},
};

/// An extent: a sum of `coefficient · product of symbols`. Equal extents are structurally equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dim(BTreeMap<Vec<String>, i64>);

impl Dim {
    /// A symbol, such as `height`.
    pub fn symbol(name: &str) -> Self {
        Self(BTreeMap::from([(vec![name.to_string()], 1)]))
    }

    /// The value; `None` if it is symbolic.
    pub fn known(&self) -> Option<usize> {
        self.constant().map(|c| usize::try_from(c).unwrap_or(0))
    }

    /// `(symbol, factor)` if the extent is a multiple of one symbol.
    pub fn as_multiple(&self) -> Option<(&str, usize)> {
        let (names, &factor) = self.0.iter().next()?;
        (self.0.len() == 1 && names.len() == 1 && factor > 0).then(|| (names[0].as_str(), factor as usize))
    }

    /// The terms, as (symbols, coefficient).
    pub fn terms(&self) -> impl Iterator<Item = (&[String], i64)> {
        self.0.iter().map(|(names, &c)| (names.as_slice(), c))
    }

    /// Floor division; 0 counts as 1. Divisible terms are moved out of the floor: (32h − 1)/2 is 16h − 1. A symbolic remainder becomes
    /// a new symbol.
    pub fn div_floor(&self, by: usize) -> Self {
        let by = by.max(1) as i64;
        let (whole, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.0.clone().into_iter().partition(|(_, c)| c % by == 0);
        let whole = Self(whole.into_iter().map(|(names, c)| (names, c / by)).collect());
        let rest = Self(rest);
        let floor = match rest.constant() {
            Some(c) => Self::from_constant(c.div_euclid(by)),
            None => Self::symbol(&format!("floor(({rest})/{by})")),
        };
        whole.combine(&floor, 1)
    }

    fn constant(&self) -> Option<i64> {
        match self.0.len() {
            0 => Some(0),
            1 => self.0.get(&Vec::new()).copied(),
            _ => None,
        }
    }

    fn from_constant(c: i64) -> Self {
        Self(if c == 0 { BTreeMap::new() } else { BTreeMap::from([(Vec::new(), c)]) })
    }

    fn combine(mut self, other: &Self, sign: i64) -> Self {
        for (names, c) in &other.0 {
            *self.0.entry(names.clone()).or_default() += sign * c;
        }
        self.0.retain(|_, c| *c != 0);
        self
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Self {
        Self::from_constant(n as i64)
    }
}

impl From<&Dim> for Dim {
    fn from(d: &Dim) -> Self {
        d.clone()
    }
}

impl<T: Into<Dim>> Add<T> for &Dim {
    type Output = Dim;
    fn add(self, other: T) -> Dim {
        self.clone().combine(&other.into(), 1)
    }
}

impl<T: Into<Dim>> Sub<T> for &Dim {
    type Output = Dim;
    fn sub(self, other: T) -> Dim {
        self.clone().combine(&other.into(), -1)
    }
}

impl<T: Into<Dim>> Mul<T> for &Dim {
    type Output = Dim;
    fn mul(self, other: T) -> Dim {
        let other = other.into();
        let mut out = Dim(BTreeMap::new());
        for (a, x) in &self.0 {
            for (b, y) in &other.0 {
                let mut names = [a.as_slice(), b.as_slice()].concat();
                names.sort();
                out = out.combine(&Dim(BTreeMap::from([(names, x * y)])), 1);
            }
        }
        out
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("0");
        }
        for (i, (names, c)) in self.0.iter().rev().enumerate() {
            let sign = if *c < 0 { " - " } else { " + " };
            f.write_str(if i > 0 {
                sign
            } else if *c < 0 {
                "-"
            } else {
                ""
            })?;
            let mut parts: Vec<String> = names.clone();
            if c.abs() != 1 || names.is_empty() {
                parts.insert(0, c.abs().to_string());
            }
            f.write_str(&parts.join("*"))?;
        }
        Ok(())
    }
}

/// Formats a shape for messages: `[n, 3, h*2, w*2]`.
pub(super) fn show(shape: &[Dim]) -> String {
    format!("[{}]", shape.iter().map(Dim::to_string).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_exact_and_canonical() {
        let (h, w) = (Dim::symbol("h"), Dim::symbol("w"));
        let rows = [
            (&(&h * 2) * 4, "8*h"),
            (&(&h * &w) + 512, "h*w + 512"),
            ((&h * 32).div_floor(8), "4*h"),
            (&(&h + 3) - 3, "h"),
            (h.div_floor(2), "floor((h)/2)"),
            ((&(&h * 32) - 1).div_floor(2), "16*h - 1"),
            ((&(&(&h * 8) + &w) + 3).div_floor(4), "2*h + floor((w + 3)/4)"),
            (Dim::from(7).div_floor(2), "3"),
            (&h - &h, "0"),
            (&w * &h, "h*w"),
        ];
        for (got, want) in rows {
            assert_eq!(got.to_string(), want);
        }
        assert_eq!(&(&h * &w) * 3, &w * (&h * 3));
        assert_eq!((&Dim::from(12) * 3).known(), Some(36));
        assert_eq!((&h * 8).as_multiple(), Some(("h", 8)));
    }
}
