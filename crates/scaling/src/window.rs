//! What was seen over the last while.

use std::collections::VecDeque;

use crate::Instant;

/// Values with their times, the oldest first, kept for as long as the longest question
/// reaches back.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Window<T>(VecDeque<(Instant, T)>);

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T: Copy> Window<T> {
    /// Adds a value and forgets what is older than `keep` seconds, but for the last of those:
    /// it still says what held at the window's start.
    pub(crate) fn push(&mut self, now: Instant, value: T, keep: f64) {
        self.0.push_back((now, value));
        while self.0.len() > 1 && now.seconds_since(self.0[1].0) >= keep {
            self.0.pop_front();
        }
    }

    /// The value that held `seconds` ago; the oldest where the window is younger.
    pub(crate) fn ago(&self, now: Instant, seconds: f64) -> Option<T> {
        self.0
            .iter()
            .rev()
            .find(|(at, _)| now.seconds_since(*at) >= seconds)
            .or_else(|| self.0.front())
            .map(|(_, value)| *value)
    }

    /// The values of the last `seconds`. The value at the window's
    /// start belongs to the time before it and is left out.
    pub(crate) fn within(&self, now: Instant, seconds: f64) -> impl Iterator<Item = T> + '_ {
        self.0
            .iter()
            .filter(move |(at, _)| now.seconds_since(*at) < seconds)
            .map(|(_, value)| *value)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(s: u64) -> Instant {
        Instant::at(Duration::from_secs(s))
    }

    #[test]
    fn what_held_at_the_start_is_kept() {
        let mut w = Window::default();
        for s in 0..10 {
            w.push(at(s * 5), s, 20.0);
        }
        assert_eq!(w.ago(at(45), 20.0), Some(5));
        assert_eq!(w.within(at(45), 20.0).collect::<Vec<_>>(), [6, 7, 8, 9]);
    }

    #[test]
    fn a_young_window_answers_with_its_oldest() {
        let mut w = Window::default();
        assert_eq!(w.ago(at(5), 20.0), None);
        w.push(at(5), 7, 20.0);
        assert_eq!(w.ago(at(5), 20.0), Some(7));
    }
}
