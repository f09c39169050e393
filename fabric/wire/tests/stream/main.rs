//! Packer and unpacker against each other, over a fabric that loses,
//! duplicates, reorders and lies.

#[cfg(test)]
mod disorder;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod loss;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod salvage;
