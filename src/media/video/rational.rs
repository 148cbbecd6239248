//! Ratios of whole numbers: frame rates, time bases and sample aspect ratios.

/// A ratio: frames per second, seconds per tick, or the width of a sample divided by its height. `0/1` is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rational {
    /// Numerator.
    pub num: i32,
    /// Denominator.
    pub den: i32,
}

impl Rational {
    /// `num/den`, not reduced.
    pub const fn new(num: i32, den: i32) -> Self {
        Self { num, den }
    }

    /// `num/den` of any size, reduced. Parts that do not fit are rounded.
    pub(crate) fn ratio(num: u64, den: u64) -> Self {
        let (mut a, mut b) = (num, den);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        let (mut num, mut den) = (num / a.max(1), den / a.max(1));
        while num.max(den) > i32::MAX as u64 {
            (num, den) = (num.div_ceil(2), den.div_ceil(2));
        }
        Self::new(num as i32, den as i32)
    }

    /// The exact rate for a rounded number of frames per second. Whole rates, halves and thousandths are exact; 23.976,
    /// 29.97, 59.94 and other NTSC rates get the denominator 1001.
    pub fn of_rate(fps: f64) -> Self {
        let whole = |x: f64, within: f64| ((x - x.round()).abs() < within).then(|| x.round() as i32);
        let exact = [1, 2].into_iter().find_map(|den| Some(Self::new(whole(fps * f64::from(den), 1e-6)?, den)));
        let ntsc = || whole(fps * 1.001, 1e-3).map(|rate| Self::new(rate.saturating_mul(1000), 1001));
        exact.or_else(ntsc).unwrap_or(Self::new((fps * 1000.0).round() as i32, 1000))
    }

    /// The reciprocal.
    #[must_use]
    pub fn inverse(self) -> Self {
        Self::new(self.den, self.num)
    }

    /// The quotient; 0 if the denominator is 0.
    pub fn value(self) -> f64 {
        if self.den == 0 { 0.0 } else { f64::from(self.num) / f64::from(self.den) }
    }

    /// This ratio multiplied by an integer of at least 1.
    #[must_use]
    pub fn times(self, factor: i32) -> Self {
        if self.den % factor.max(1) == 0 {
            return Self::new(self.num, self.den / factor.max(1));
        }
        Self::new(self.num.saturating_mul(factor), self.den)
    }

    /// Whether both parts are positive.
    pub fn is_known(self) -> bool {
        self.num > 0 && self.den > 0
    }
}

impl std::fmt::Display for Rational {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.num, self.den)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_of_any_size() {
        let rows = [
            ((1000, 40), (25, 1)),
            ((30_000, 1001), (30_000, 1001)),
            ((0, 7), (0, 1)),
            ((7, 0), (1, 0)),
            ((0, 0), (0, 0)),
            ((u64::MAX, u64::MAX), (1, 1)),
            ((1 << 40, 1 << 20), (1 << 20, 1)),
            ((1, 1 << 33), (1, 1 << 30)),
            ((3_000_000_000, 7), (1_500_000_000, 4)),
        ];
        let wrong: Vec<_> = rows
            .iter()
            .filter(|((num, den), want)| Rational::ratio(*num, *den) != Rational::new(want.0, want.1))
            .map(|((num, den), want)| format!("{num}/{den}: {}, wanted {want:?}", Rational::ratio(*num, *den)))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
