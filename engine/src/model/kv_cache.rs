//! Keys and values of finished scales.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::side_by_side::share_of;
use crate::api::Storage;
use crate::kernels::{self, Room, Seen};
use crate::weights::{stored, widened};

/// Keys and values of the finished scales of one block, each `[B, N, L, D]`.
///
/// Room for a run is taken once; scales are written into it one after the other. What does not fit, because it was
/// not foreseen or because it is the last scale, which nothing looks back on, lies beside, and so does what is kept in
/// eight bits, where nothing can be written in place.
#[derive(Clone, Debug, Default)]
pub struct KvCache {
    room: Option<[Tensor<4>; 2]>,
    /// Tokens the room is for, and those written.
    capacity: usize,
    written: usize,
    /// Most values of the room.
    max_elements: usize,
    beside: Vec<[Tensor<4>; 2]>,
    storage: Storage,
    /// A cache for each row, where rows are computed one by one.
    rows: Vec<Self>,
    /// A cache for each share of so many rows, where these are computed side by side.
    shares: Vec<Self>,
    share: usize,
    /// A cache for each group of heads, where these are looked at one by one, and how many there shall be.
    groups: Vec<Self>,
    group_count: usize,
}

/// Most groups of heads.
const MOST_GROUPS: usize = 5;

/// In how many groups of equal size `heads` heads are looked at: one by one in eight bits, as keys and values are widened
/// for a look, and those of all heads together take the most memory of a block.
pub const fn head_groups(heads: usize, storage: Storage) -> usize {
    let mut groups = match storage {
        Storage::Eight => MOST_GROUPS,
        Storage::Single | Storage::Half => 1,
    };
    while !heads.is_multiple_of(groups) {
        groups -= 1;
    }
    groups
}

/// Room for `shape` values that nobody looks at before they are written.
fn empty(shape: [usize; 4], storage: Storage, device: &Device) -> Tensor<4> {
    match storage {
        Storage::Half => Tensor::empty(shape, (device, DType::F16)),
        // Quicker than the backend's own, which fills and then copies.
        _ if *device == Device::flex() => {
            let count = shape.iter().product();
            Tensor::from_data(TensorData::new(vec![0.0_f32; count], shape), device)
        }
        _ => Tensor::empty(shape, (device, DType::F32)),
    }
}

impl KvCache {
    /// An empty one with room for `capacity` tokens of a row, that keeps as `storage` says; without room where that
    /// would hold more than `max_elements` values.
    pub fn new(storage: Storage, capacity: usize, max_elements: usize) -> Self {
        Self {
            storage,
            capacity,
            max_elements,
            ..Self::default()
        }
    }

    /// The cache of row `index` of `count` alone; either all rows are together or all are alone.
    pub(super) fn row(&mut self, index: usize, count: usize) -> &mut Self {
        let row = self.empty().in_groups(self.group_count);
        let more = count.saturating_sub(self.rows.len());
        self.rows.extend(std::iter::repeat_n(row, more));
        &mut self.rows[index]
    }

    /// How many rows of a batch are a share; the first to ask, with `rows` of them, settles it.
    pub(super) fn share(&mut self, rows: usize) -> usize {
        if self.share == 0 {
            self.share = share_of(rows);
        }
        self.share
    }

    /// The caches of `count` shares of `share` rows each.
    pub(super) fn shares(&mut self, share: usize, count: usize) -> &mut [Self] {
        assert!(self.shares.is_empty() || self.share == share, "settled");
        self.share = share;
        let more = count.saturating_sub(self.shares.len());
        let empty = self.empty();
        self.shares.extend(std::iter::repeat_n(empty, more));
        &mut self.shares[..count]
    }

    /// The same, looked at in `count` groups of heads.
    pub(super) fn in_groups(mut self, count: usize) -> Self {
        self.group_count = count;
        self
    }

    /// The caches of groups of heads; none where all heads are together.
    pub(super) fn groups(&mut self) -> &mut [Self] {
        if self.groups.is_empty() && self.group_count > 1 {
            self.groups = vec![self.empty(); self.group_count];
        }
        &mut self.groups
    }

    /// Another one that keeps as this one does.
    fn empty(&self) -> Self {
        Self::new(self.storage, self.capacity, self.max_elements)
    }

    /// Adds the keys and values of one scale, or of some that pass together.
    pub(super) fn push(&mut self, keys: Tensor<4>, values: Tensor<4>) {
        let own = [keys, values].map(|own| stored(own, self.storage));
        let [batch, heads, count, width] = own[0].dims();
        let Some(room) = self.take_room([batch, heads, count, width], &own[0].device()) else {
            self.beside.push(own);
            return;
        };
        let places = [0..batch, 0..heads, room.first..room.first + count, 0..width];
        let [own_keys, own_values] = own;
        let room = Room {
            keys: room.keys.slice_assign(places.clone(), own_keys),
            values: room.values.slice_assign(places, own_values),
            ..room
        };
        self.give_room(room, count);
    }

    /// The room, where keys and values of `shape` fit into it; whoever takes it gives it back.
    pub(super) fn take_room(&mut self, shape: [usize; 4], device: &Device) -> Option<Room> {
        let [batch, heads, count, width] = shape;
        let is_small = batch * heads * width * self.capacity <= self.max_elements;
        let fits = self.written + count <= self.capacity && self.beside.is_empty();
        let is_plain = self.storage != Storage::Eight && self.group_count < 2;
        if !is_small || !fits || !is_plain {
            return None;
        }
        let shape = [batch, heads, self.capacity, width];
        let make = || [(); 2].map(|()| empty(shape, self.storage, device));
        let [keys, values] = self.room.take().unwrap_or_else(make);
        assert_eq!(keys.dims(), shape, "room for these rows");
        Some(Room {
            keys,
            values,
            first: self.written,
        })
    }

    /// Puts the room back, `count` more of whose places are written.
    pub(super) fn give_room(&mut self, room: Room, count: usize) {
        self.room = Some([room.keys, room.values]);
        self.written += count;
    }

    /// Forgets all rows of the batch but the first `count`.
    pub fn keep_rows(&mut self, count: usize) {
        let first = |part: Tensor<4>| {
            let rows = widened(part, DType::F32).narrow(0, 0, count);
            stored(rows, self.storage)
        };
        self.rows.truncate(count);
        if self.share > 0 {
            self.shares.truncate(count.div_ceil(self.share));
            let before = self.shares.len().saturating_sub(1) * self.share;
            if let Some(share) = self.shares.last_mut() {
                share.keep_rows(self.share.min(count - before));
            }
        }
        self.groups
            .iter_mut()
            .for_each(|group| group.keep_rows(count));
        self.room = self.room.take().map(|room| room.map(first));
        let beside = std::mem::take(&mut self.beside).into_iter();
        self.beside = beside.map(|parts| parts.map(first)).collect();
    }

    /// Keys and values of rows `start..start + count` of the batch, in f32 or, where attention takes them so, in half precision.
    pub(super) fn rows(&self, start: usize, count: usize) -> Seen {
        let rows = |part: &Tensor<4>| {
            let part = match part.dtype() {
                // Not every backend takes a part of what is kept in eight bits.
                DType::QFloat(_) => widened(part.clone(), DType::F32),
                _ => part.clone(),
            };
            if part.dims()[0] == count {
                return part;
            }
            part.narrow(0, start, count)
        };
        let some = self.room.iter().chain(&self.beside).next();
        let takes_half =
            |[part, _]: &[Tensor<4>; 2]| kernels::takes_half_keys(&part.device(), part.dims()[3]);
        let is_taken = match self.storage {
            Storage::Single => true,
            Storage::Half => some.is_some_and(takes_half),
            Storage::Eight => false,
        };
        // What lies in one piece behind the room is looked at where it is.
        if let (Some(room), [] | [_], true) = (&self.room, &self.beside[..], is_taken) {
            let own = self.beside.first();
            return Seen {
                keys: rows(&room[0]),
                values: rows(&room[1]),
                count: self.written,
                own: own.map(|parts| parts.each_ref().map(rows)),
            };
        }
        let joined = |which: usize| {
            let room = self.room.iter();
            let room = room.map(|room| rows(&room[which]).narrow(2, 0, self.written));
            let beside = self.beside.iter().map(|parts| rows(&parts[which]));
            let mut parts: Vec<Tensor<4>> = room.chain(beside).collect();
            let joined = if parts.len() == 1 {
                parts.remove(0)
            } else {
                Tensor::cat(parts, 2)
            };
            if is_taken {
                joined
            } else {
                widened(joined, DType::F32)
            }
        };
        Seen::all(joined(0), joined(1))
    }

    /// Tokens of a row.
    pub(super) fn len(&self) -> usize {
        let beside = self.beside.iter().map(|parts| parts[0].dims()[2]);
        self.written + beside.sum::<usize>()
    }

    /// Tokens of a row that the largest of its tensors may have.
    pub(super) fn places(&self) -> usize {
        self.len().max(self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::{KvCache, head_groups};
    use crate::api::Storage;
    use crate::model::{Look, Rope, tiny};
    use crate::schedule::ScaleSchedule;
    use burn::tensor::{Device, Tensor, TensorData};

    fn scale(count: usize, seed: usize) -> [Tensor<4>; 2] {
        [0, 1].map(|which| {
            let values =
                (0..2 * 3 * count * 32).map(|i| ((i * 37 + seed * 11 + which) % 101) as f32);
            let data = TensorData::new(values.collect::<Vec<_>>(), [2, 3, count, 32]);
            Tensor::from_data(data, &Device::flex())
        })
    }

    fn read(cache: &KvCache, start: usize, count: usize) -> Vec<Vec<f32>> {
        let seen = cache.rows(start, count);
        let own = seen.own.map(|own| own.map(Some)).unwrap_or_default();
        [seen.keys, seen.values]
            .into_iter()
            .zip(own)
            .map(|(first, own)| {
                let first = first.narrow(2, 0, seen.count);
                let all = std::iter::once(first).chain(own).collect();
                Tensor::cat(all, 2).try_into_vec_as().unwrap()
            })
            .collect()
    }

    #[test]
    fn room_taken_once_holds_what_parts_hold() {
        for storage in [Storage::Single, Storage::Half, Storage::Eight] {
            for capacity in [0, 4, 20, 21, 100] {
                let mut cache = KvCache::new(storage, capacity, usize::MAX);
                let mut parts = KvCache::new(storage, 100, 0);
                for (seed, count) in [1, 4, 16].into_iter().enumerate() {
                    let [keys, values] = scale(count, seed);
                    cache.push(keys.clone(), values.clone());
                    parts.push(keys, values);
                    assert_eq!(cache.len(), parts.len());
                    for (start, rows) in [(0, 2), (1, 1)] {
                        assert_eq!(read(&cache, start, rows), read(&parts, start, rows));
                    }
                }
                cache.keep_rows(1);
                parts.keep_rows(1);
                assert_eq!(read(&cache, 0, 1), read(&parts, 0, 1));
            }
        }
    }

    #[test]
    fn heads_fall_into_groups_of_one_size() {
        let groups = |heads| head_groups(heads, Storage::Eight);
        let heads = [1, 5, 6, 7, 8, 16, 28];
        assert_eq!(heads.map(groups), [1, 5, 3, 1, 4, 4, 4]);
        assert_eq!(head_groups(16, Storage::Half), 1);
    }

    #[test]
    fn rows_and_groups_of_heads_alone_are_all_together() {
        let device = Device::flex();
        let mut transformer = tiny::transformer(2);
        let schedule = ScaleSchedule::nearest(1.0, 3).unwrap();
        let condition = transformer.condition(tiny::tokens([3, 5], 1), &[5, 2, 4]);
        let mut drawn = [(false, 1), (true, 1), (false, 4), (true, 2)].map(|(alone, groups)| {
            transformer.rows_alone = alone;
            let caches = transformer.caches(5).into_iter();
            let mut caches: Vec<_> = caches.map(|cache| cache.in_groups(groups)).collect();
            let mut all = Vec::new();
            for (index, scale) in schedule.scales.iter().enumerate() {
                // Guidance ends scale by scale, until one row is left.
                let rows = 3 - index;
                for cache in &mut caches {
                    cache.keep_rows(rows);
                }
                let condition = condition.rows(0, rows);
                let rope = Rope::new(&schedule, index..index + 1, tiny::HEAD, &device);
                let mut x = tiny::tokens([rows, scale.tokens()], index as u64);
                for (block, cache) in caches.iter_mut().enumerate() {
                    x = transformer.block(block, x, &condition, &rope, Look::Cache(cache, None));
                }
                all.extend(x.try_into_vec_as::<f32>().unwrap());
            }
            all
        });
        assert!(drawn[0].iter().any(|value| value.abs() > 0.1));
        let together = std::mem::take(&mut drawn[0]);
        for others in &drawn[1..] {
            assert_eq!(&together, others);
        }
    }
}
