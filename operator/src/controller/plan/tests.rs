//! Tables of Observed and Plan.
