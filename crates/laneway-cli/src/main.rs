//! The command. 
fn main(){}
