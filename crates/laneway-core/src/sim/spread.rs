//! The assignors: who gets which partitions.

use super::wire::{Id, Parts};

/// Spreads partitions evenly, in an order that turns with the generation, so that eager groups move them.
pub(super) fn rotating(members: &[Id], partitions: i32, turn: i32) -> Vec<Parts> {
    let mut shares = vec![Parts::NONE; members.len()];
    for partition in 0..partitions {
        let index = (partition + turn).unsigned_abs() as usize % members.len();
        shares[index].insert(partition);
    }
    shares
}

/// Spreads partitions evenly and moves as few as possible from those who have them.
pub(super) fn sticky(owned: &[Parts], partitions: i32) -> Vec<Parts> {
    let all = Parts::first(partitions);
    let (least, mut extra) = (all.len() / owned.len(), all.len() % owned.len());
    let mut order: Vec<usize> = (0..owned.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(owned[*index].len()));
    let mut shares = vec![Parts::NONE; owned.len()];
    let mut limits = vec![least; owned.len()];
    let mut free = all;
    for index in order {
        if extra > 0 {
            extra -= 1;
            limits[index] += 1;
        }
        let kept: Parts = owned[index].both(free).iter().take(limits[index]).collect();
        shares[index] = kept;
        free = free.minus(kept);
    }
    for partition in free.iter() {
        let roomy = (0..shares.len()).find(|index| shares[*index].len() < limits[*index]);
        if let Some(index) = roomy {
            shares[index].insert(partition);
        }
    }
    shares
}
