//! To come with its step.
