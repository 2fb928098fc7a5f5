//! Whole meshes on the loopback network: what people do, with the program they use.

mod audit;
mod crash;
mod fleet;
mod guide;
mod input;
mod join;
mod labels;
mod operators;
mod root;
mod service;
