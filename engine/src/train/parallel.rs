//! One update computed by several workers, each with a part of the batch.
//!
//! The processor's backend runs most element-wise operations on one core, so a
//! worker per core, each with its own copy of the network and its own graph,
//! keeps all of them busy; of several graphics cards each has a worker. Parts and
//! the order of their sum are fixed: the result depends on the number of workers
//! but not on timing.

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::optimizer::Rows;
use crate::api::EngineError;
use crate::kernels::{Precision, with_precision};

/// Splits `count` things into at most `workers` runs of nearly equal length.
pub fn parts(count: usize, workers: usize) -> Vec<std::ops::Range<usize>> {
    let workers = workers.clamp(1, count.max(1));
    (0..workers)
        .map(|worker| worker * count / workers..(worker + 1) * count / workers)
        .filter(|part| !part.is_empty())
        .collect()
}

/// The threads of a run's workers, which stay from update to update. `None` is the caller's own thread.
pub struct Crew(Vec<Option<ThreadPool>>);

impl Crew {
    /// `count` workers that share the processor: each keeps within its own cores.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the system gives no more threads.
    pub fn sharing(count: usize) -> Result<Self, EngineError> {
        if count < 2 {
            return Ok(Self(vec![None]));
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (cores / count).max(1);
        let pools = (0..count).map(|_| pool(threads).map(Some));
        Ok(Self(pools.collect::<Result<_, _>>()?))
    }

    /// `count` workers with a device of their own each. A graphics card gives every thread a queue and memory of its own,
    /// so the first is the caller, who draws on that card as well.
    ///
    /// # Errors
    /// [`EngineError::Internal`] when the system gives no more threads.
    pub fn apart(count: usize) -> Result<Self, EngineError> {
        let others = (1..count).map(|_| pool(1).map(Some));
        let all = std::iter::once(Ok(None)).chain(others);
        Ok(Self(all.collect::<Result<_, _>>()?))
    }

    /// Runs `work` on every part with a network of its own; gradients are averaged by part length.
    ///
    /// # Errors
    /// The first error of a worker, in the order of parts.
    pub fn update<N: Send, R: Send>(
        &self,
        replicas: &mut [N],
        precision: Precision,
        parts: &[std::ops::Range<usize>],
        work: impl Fn(&mut N, std::ops::Range<usize>) -> Result<(Rows, R), EngineError> + Sync,
    ) -> Result<(Rows, Vec<R>), EngineError> {
        let one = |pool: &Option<ThreadPool>, network: &mut N, part: std::ops::Range<usize>| {
            let run = || with_precision(precision, || work(network, part));
            match pool {
                Some(pool) => pool.install(run),
                None => run(),
            }
        };
        let one = &one;
        let mut workers = self.0.iter().zip(replicas).zip(parts);
        let Some(((own, network), part)) = workers.next() else {
            return Ok((Vec::new(), Vec::new()));
        };
        let done: Vec<Result<(Rows, R), EngineError>> = std::thread::scope(|scope| {
            let handles: Vec<_> = workers
                .map(|((pool, network), part)| {
                    let part = part.clone();
                    std::thread::Builder::new()
                        .name("trainer".to_owned())
                        .spawn_scoped(scope, move || one(pool, network, part))
                })
                .collect();
            let mut done = vec![one(own, network, part.clone())];
            done.extend(handles.into_iter().map(|handle| {
                let handle = handle.map_err(|error| starting(&error))?;
                handle
                    .join()
                    .map_err(|_panic| EngineError::internal("a trainer thread fell over"))?
            }));
            done
        });
        mean(done, parts)
    }
}

fn pool(threads: usize) -> Result<ThreadPool, EngineError> {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| starting(&error))
}

fn starting(error: &dyn std::error::Error) -> EngineError {
    EngineError::internal(format!("starting a trainer: {error}"))
}

/// Gradients averaged by the lengths of parts, and what else was found.
fn mean<R>(
    done: Vec<Result<(Rows, R), EngineError>>,
    parts: &[std::ops::Range<usize>],
) -> Result<(Rows, Vec<R>), EngineError> {
    let total: usize = parts.iter().map(ExactSizeIterator::len).sum();
    let mut sum: Rows = Vec::new();
    let mut results = Vec::new();
    for (one, part) in done.into_iter().zip(parts) {
        let (rows, result) = one?;
        let weight = part.len() as f32 / total.max(1) as f32;
        if sum.is_empty() {
            sum = rows;
            sum.iter_mut()
                .flatten()
                .flatten()
                .for_each(|value| *value *= weight);
        } else {
            for (total, row) in sum.iter_mut().zip(rows) {
                match (total.as_mut(), row) {
                    (Some(total), Some(row)) => {
                        total
                            .iter_mut()
                            .zip(row)
                            .for_each(|(a, b)| *a += weight * b);
                    }
                    (None, Some(row)) => {
                        *total = Some(row.into_iter().map(|b| weight * b).collect());
                    }
                    (_, None) => {}
                }
            }
        }
        results.push(result);
    }
    Ok((sum, results))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for (count, workers) in [(8, 2), (7, 3), (1, 4), (24, 5)] {
            let all: Vec<usize> = parts(count, workers).into_iter().flatten().collect();
            assert_eq!(all, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn gradients_are_the_mean_over_the_batch() {
        let values = [1.0_f32, 2.0, 6.0];
        let work = |_: &mut (), part: std::ops::Range<usize>| {
            let mean = values[part.clone()].iter().sum::<f32>() / part.len() as f32;
            Ok((vec![Some(vec![mean]), None], part.len()))
        };
        for crew in [Crew::sharing(2).unwrap(), Crew::apart(2).unwrap()] {
            let done = crew.update(&mut [(), ()], Precision::Single, &parts(3, 2), work);
            let (rows, lens) = done.unwrap();
            assert!((rows[0].as_ref().unwrap()[0] - 3.0).abs() < 1e-6);
            assert_eq!(rows[1], None);
            assert_eq!(lens, vec![1, 2]);
        }
    }
}
