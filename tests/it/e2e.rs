//! Whole meshes on the loopback network: what people do, with the program they use.

mod audit;
mod crash;
mod fleet;
mod floods;
mod guide;
mod input;
mod join;
mod labels;
mod operators;
mod remote;
mod root;
mod service;
