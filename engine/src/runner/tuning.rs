//! One teaching job: from a wish to events.

use std::path::Path;

use super::link::Link;
use crate::api::{EngineError, Event, FoundPicture, JobId, TuneRates, TuneStep, TuneWish};
use crate::device::OpenDevice;
use crate::finetune::{self, Collection, FinetuneConfig, look_through};
use crate::generate::Bundle;
use crate::train::{Limits, Progress};

/// Looks through a folder and tells what is in it.
pub(super) fn look(
    job: JobId,
    folder: &Path,
    trigger: &str,
    scale_count: usize,
    rates: TuneRates,
    link: &Link,
) -> Result<(), EngineError> {
    let found = look_through(folder, scale_count, trigger)?;
    let pictures = found.pictures.into_iter().map(|picture| FoundPicture {
        path: picture.path,
        words: picture.words,
        caption: picture.caption,
        repeats: picture.repeats,
        original: picture.original,
        image: picture.image,
    });
    link.tell(Event::PicturesFound {
        job,
        pictures: pictures.collect(),
        findings: found.findings,
        rates,
    });
    Ok(())
}

/// Teaches and tells how it goes; the caller tells of errors.
pub(super) fn tune(
    job: JobId,
    wish: &TuneWish,
    bundle: &mut Bundle,
    device: &OpenDevice,
    link: &Link,
    given_up: &[String],
    between: &mut dyn FnMut(&mut Bundle),
) -> Result<(), EngineError> {
    let scale_count = wish.scale_count.unwrap_or(bundle.info.scale_count);
    let collection = look_through(&wish.data, scale_count, &wish.trigger)?;
    let limits = Limits {
        resume: true,
        until: None,
        cancelled: &|| link.is_stopped(job),
    };
    let config = FinetuneConfig::from(wish);
    // Another run under the same name is left alone; this one takes the next free folder.
    for number in 1..1000_u32 {
        let out = match number {
            1 => wish.out.clone(),
            _ => wish.out.with_file_name(format!("{}-{number}", wish.name)),
        };
        let made = match run(
            job,
            &config,
            &collection,
            &out,
            bundle,
            device,
            link,
            given_up,
            &limits,
            between,
        ) {
            Err(EngineError::OtherRun { .. }) => continue,
            result => result?,
        };
        let path = out.join("lora.safetensors");
        if made == 0 || !path.exists() {
            link.tell(Event::Cancelled { job });
        } else {
            link.tell(Event::TuneDone {
                job,
                path,
                step: made,
                steps: wish.steps,
            });
        }
        return Ok(());
    }
    Err(EngineError::BadSetting {
        what: "the name of the LoRA",
        value: wish.name.clone(),
        advice: "There are too many of this name; choose another.".to_owned(),
    })
}

/// One run in one folder; gives the updates made in all.
fn run(
    job: JobId,
    config: &FinetuneConfig,
    collection: &Collection,
    out: &Path,
    bundle: &mut Bundle,
    device: &OpenDevice,
    link: &Link,
    given_up: &[String],
    limits: &Limits<'_>,
    between: &mut dyn FnMut(&mut Bundle),
) -> Result<u64, EngineError> {
    let mut tell = |progress: &Progress| match progress {
        Progress::Line(line) => link.tell(Event::TuneStepDone {
            job,
            step: TuneStep {
                step: line.step,
                steps: line.steps,
                loss: line.loss,
                bit_accuracy: line.bit_accuracy.clone(),
                pictures_per_sec: line.pictures_per_sec,
                eta_secs: line.eta_secs,
            },
        }),
        Progress::Samples {
            step,
            prompts,
            images,
        } => link.tell(Event::TuneSamples {
            job,
            step: *step,
            prompts: prompts.clone(),
            images: images.clone(),
        }),
        Progress::Fitted { memory, notes } => link.tell(Event::TuneFitted {
            job,
            memory: memory.clone(),
            notes: given_up.iter().chain(notes).cloned().collect(),
        }),
        Progress::Step | Progress::Captions { .. } => {}
    };
    finetune::run(
        config,
        bundle,
        collection,
        device,
        &[],
        out,
        limits,
        &mut tell,
        between,
    )
}
