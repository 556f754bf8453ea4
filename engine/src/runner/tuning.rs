//! One teaching job: from a wish to events.

use super::link::Link;
use crate::api::{EngineError, Event, FoundPicture, JobId, TuneStep, TuneWish};
use crate::device::OpenDevice;
use crate::finetune::{self, FinetuneConfig, look_through};
use crate::generate::Bundle;
use crate::train::{Limits, Progress};

/// Looks through a folder and tells what is in it.
pub(super) fn look(
    job: JobId,
    folder: &std::path::Path,
    trigger: &str,
    bundle: &Bundle,
    link: &Link,
) -> Result<(), EngineError> {
    let found = look_through(folder, bundle.info.scale_count, trigger)?;
    let pictures = found.pictures.into_iter().map(|picture| FoundPicture {
        path: picture.path,
        caption: picture.caption,
        repeats: picture.repeats,
        image: picture.image,
    });
    link.tell(Event::PicturesFound {
        job,
        pictures: pictures.collect(),
        findings: found.findings,
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
) -> Result<(), EngineError> {
    let collection = look_through(&wish.data, bundle.info.scale_count, &wish.trigger)?;
    let limits = Limits {
        resume: true,
        until: None,
        cancelled: &|| link.is_stopped(job),
    };
    let config = FinetuneConfig::from(wish);
    let mut made = 0;
    let told = finetune::run(
        &config,
        bundle,
        &collection,
        &device.device,
        &wish.out,
        &limits,
        &mut |progress| match progress {
            Progress::Line(line) => {
                made = line.step;
                link.tell(Event::TuneStepDone {
                    job,
                    step: TuneStep {
                        step: line.step,
                        steps: line.steps,
                        loss: line.loss,
                        bit_accuracy: line.bit_accuracy.clone(),
                        pictures_per_sec: line.pictures_per_sec,
                        eta_secs: line.eta_secs,
                    },
                });
            }
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
            Progress::Captions { .. } => {}
        },
    );
    told?;
    link.tell(Event::TuneDone {
        job,
        path: wish.out.join("lora.safetensors"),
        step: made,
        steps: wish.steps,
    });
    Ok(())
}
