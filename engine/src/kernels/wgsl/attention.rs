//! Attention on graphics devices, without or with matrix units.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor};

use super::bridge::{Launches, Shader, bound, run};
use super::units::{MatrixUnits, type_name};
use super::{Seen, Sight, applies, units_for};

/// Workgroup memory of the attention for values that pass by, in groups of four; every device has 16 KB in all.
const TILE_QUARTERS: usize = 480;
/// Rows of a batch whose numbers of keys fit in one launch.
const KEYS_AT_ONCE: usize = 64;

/// Where queries, keys and values lie, in values.
struct Places {
    rows: usize,
    heads: usize,
    head_width: usize,
    /// Steps of queries: row, head, place.
    query: [usize; 3],
    /// Steps of keys and of values.
    key: [usize; 3],
    /// Where values start behind keys.
    value_start: usize,
    /// Queries of a row.
    length: usize,
    /// What keys and values are.
    kept: DType,
    /// How many of them lie in the first pair of tensors, and the steps of those in the second, if there is one.
    split: Option<(usize, [usize; 3])>,
}

impl Places {
    /// Launches for `queries` that see `keys` of every row; `None` for heads that do not divide into 32s, or beyond 256.
    fn with(
        &self,
        sights: &[(Range<usize>, Vec<usize>)],
        units: Option<MatrixUnits>,
    ) -> Option<Launches> {
        if !self.head_width.is_multiple_of(32) || self.head_width > 256 {
            return None;
        }
        let width = self.heads * self.head_width;
        let mut list = Vec::new();
        for (queries, keys) in sights {
            for (part, keys) in keys.chunks(KEYS_AT_ONCE).enumerate() {
                let groups = [
                    queries.len().div_ceil(64) as u32,
                    self.heads as u32,
                    keys.len() as u32,
                ];
                let steps = [
                    self.query[0],
                    self.query[1],
                    self.query[2],
                    self.key[0],
                    self.key[1],
                    self.key[2],
                    self.value_start,
                    self.length * width,
                    width,
                ];
                let mut info = vec![queries.len() as u32, queries.start as u32];
                info.extend(steps.map(|step| (step / 4) as u32));
                info.push((part * KEYS_AT_ONCE) as u32);
                let (first, steps) = self.split.unwrap_or_default();
                info.push(first as u32);
                info.extend(steps.map(|step| (step / 4) as u32));
                info.extend(keys.iter().map(|&keys| keys as u32));
                info.resize(16 + KEYS_AT_ONCE, 0);
                list.push((groups, info));
            }
        }
        let shader = match units {
            Some(units) => {
                units.attention(self.head_width, type_name(self.kept)?, self.split.is_some())?
            }
            None if self.kept == DType::F32 => self.shader()?,
            None => return None,
        };
        Some(Launches {
            shader,
            shape: vec![self.rows, self.length, width],
            list,
        })
    }

    fn shader(&self) -> Option<Shader> {
        let fit = TILE_QUARTERS / (self.head_width / 4);
        let passing = [32, 16, 8, 4].into_iter().find(|&passing| passing <= fit)?;
        Some(shader!(
            "attend",
            vec![
                ("WIDTH", self.head_width as u32),
                ("PASSING", passing as u32),
                ("OWN", (self.head_width / 32) as u32),
                ("SPLIT", u32::from(self.split.is_some()))
            ]
        ))
    }

    /// Launches on matrix units where factors are to be rounded and the device has them, else without.
    fn launches(&self, sights: &[(Range<usize>, Vec<usize>)], device: &Device) -> Option<Launches> {
        let on_units = units_for(device).and_then(|units| self.with(sights, Some(units)));
        on_units.or_else(|| self.with(sights, None))
    }
}

/// See [`kernels::takes_half_keys`](crate::kernels::takes_half_keys).
pub(in crate::kernels) fn takes_half_keys(device: &Device, head_width: usize) -> bool {
    let on = |units: MatrixUnits| units.attention(head_width, "f16", true).is_some();
    head_width.is_multiple_of(32) && units_for(device).is_some_and(on)
}

/// See [`kernels::attend`](crate::kernels::attend).
pub(in crate::kernels) fn attend(
    query: &Tensor<4>,
    seen: &Seen,
    sights: &Arc<[Sight]>,
) -> Option<Tensor<3>> {
    let [rows, heads, length, head_width] = query.dims();
    let (key, value) = (&seen.keys, &seen.values);
    let places = key.dims()[2];
    let is_alike = |[own_key, own_value]: &[Tensor<4>; 2]| {
        own_key.dims() == own_value.dims()
            && own_key.dims()[..2] == [rows, heads]
            && [own_key, own_value].map(|t| t.dtype()) == [key.dtype(); 2]
    };
    if !applies(query)
        || value.dtype() != key.dtype()
        || value.dims() != key.dims()
        || !seen.own.as_ref().is_none_or(is_alike)
    {
        return None;
    }
    let steps = |places| [heads * places * head_width, places * head_width, head_width];
    let layout = Places {
        rows,
        heads,
        head_width,
        query: steps(length),
        key: steps(places),
        value_start: 0,
        length,
        kept: key.dtype(),
        split: seen
            .own
            .as_ref()
            .map(|[own, _]| (seen.count, steps(own.dims()[2]))),
    };
    // Neighbours that see the same keys go together.
    let mut joined: Vec<(Range<usize>, Vec<usize>)> = Vec::new();
    for sight in sights.iter() {
        match joined.last_mut() {
            Some((queries, keys))
                if keys.first() == Some(&sight.keys) && queries.end == sight.queries.start =>
            {
                queries.end = sight.queries.end;
            }
            _ => joined.push((sight.queries.clone(), vec![sight.keys; rows])),
        }
    }
    let launches = layout.launches(&joined, &query.device())?;
    // Something has to be bound.
    let [own_key, own_value] = seen.own.as_ref().map_or([key, value], |own| own.each_ref());
    let inputs = [query, key, value, own_key, own_value].map(bound);
    Some(run(inputs, launches))
}

/// See [`kernels::cross_attention`](crate::kernels::cross_attention).
pub(in crate::kernels) fn cross_attention(
    query: &Tensor<3>,
    text: &Tensor<3>,
    heads: usize,
    lens: &Arc<[usize]>,
) -> Option<Tensor<3>> {
    let [rows, length, width] = query.dims();
    let tokens = text.dims()[1];
    if !applies(query) || lens.len() != rows || lens.iter().any(|&len| len == 0 || len > tokens) {
        return None;
    }
    let head_width = width / heads;
    let layout = Places {
        rows,
        heads,
        head_width,
        query: [length * width, head_width, width],
        key: [tokens * 2 * width, head_width, 2 * width],
        value_start: width,
        length,
        kept: text.dtype(),
        split: None,
    };
    let launches = layout.launches(&[(0..length, lens.to_vec())], &query.device())?;
    let text = bound(text);
    let inputs = [bound(query), text.clone(), text.clone(), text.clone(), text];
    Some(run(inputs, launches))
}
