//! Who is to blame for a fault: what is seen of the ranks is gathered here ([`evidence`]).

pub mod evidence;
