//! Teaching the text encoder what captions mean before pictures come in.
//!
//! For every attribute of a postcard a learned question looks over the text
//! features and must answer which value the caption names, or that it names
//! none. Captions cost nothing, so this takes minutes and saves the transformer
//! from learning words and pictures at once. The questions are thrown away.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use crate::postcards::{BodyKind, Caption, Colour, Land, Place, Postcard, Sky, ThingKind, Time};
use crate::text::TextFeatures;
use crate::weights::{Init, Network, Slots};

/// Number of attributes asked for.
const QUESTIONS: usize = 11;
/// Largest number of answers, "not named" included.
const ANSWERS: usize = 10;

/// The questions.
#[derive(Clone, Debug)]
pub struct TextProbe {
    questions: Tensor<2>,
    answers: Tensor<3>,
    width: usize,
}

/// The answer to every question: 0 where the caption names nothing, else 1 + the value's place.
fn answers(card: &Postcard, caption: &Caption) -> [i32; QUESTIONS] {
    fn place<T: PartialEq>(all: &[T], value: Option<&T>, named: bool) -> i32 {
        let value = value.filter(|_| named);
        value
            .and_then(|v| all.iter().position(|a| a == v))
            .map_or(0, |i| i as i32 + 1)
    }
    let (named, body, thing) = (&caption.named, card.body.as_ref(), card.thing.as_ref());
    [
        place(Time::ALL, Some(&card.time), named.time),
        place(Land::ALL, Some(&card.land), named.land),
        place(Colour::ALL, Some(&card.land_colour), named.land_colour),
        place(BodyKind::ALL, body.map(|b| &b.kind), named.body),
        place(Colour::ALL, body.map(|b| &b.colour), named.body_colour),
        place(Place::ALL, body.map(|b| &b.place), named.body_place),
        place(ThingKind::ALL, thing.map(|t| &t.kind), named.thing),
        place(Colour::ALL, thing.map(|t| &t.colour), named.thing_colour),
        place(
            Place::ALL,
            thing.and_then(|t| t.place.as_ref()),
            named.thing_place,
        ),
        place(&[1, 2, 3], thing.map(|t| &t.count), named.count),
        place(Sky::ALL, Some(&card.sky), named.sky),
    ]
}

impl TextProbe {
    /// Questions over features of `width` channels; weights come later.
    pub fn new(width: usize, device: &Device) -> Self {
        Self {
            questions: Tensor::zeros([1, 1], device),
            answers: Tensor::zeros([1, 1, 1], device),
            width,
        }
    }

    /// Mean cross entropy of the answers, and the share that is right.
    pub fn loss(
        &self,
        text: &TextFeatures,
        cards: &[Postcard],
        captions: &[Caption],
    ) -> (Tensor<1>, Tensor<1>) {
        let [rows, tokens, width] = text.padded.dims();
        let device = text.padded.device();
        let hidden: Vec<f32> = text
            .lens
            .iter()
            .flat_map(|&len| (0..tokens).map(move |i| if i < len { 0.0 } else { -1e9 }))
            .collect();
        let hidden = Tensor::<3>::from_data(TensorData::new(hidden, [rows, 1, tokens]), &device);
        let questions = self
            .questions
            .clone()
            .unsqueeze::<3>()
            .expand([rows, QUESTIONS, width]);
        let scores = questions
            .matmul(text.padded.clone().swap_dims(1, 2))
            .mul_scalar(1.0 / (width as f32).sqrt());
        let found = activation::softmax(scores + hidden, 2).matmul(text.padded.clone()); // [R, Q, C]
        let logits = found.swap_dims(0, 1).matmul(self.answers.clone()); // [Q, R, A]
        let labels: Vec<i32> = (0..QUESTIONS)
            .flat_map(|q| {
                cards
                    .iter()
                    .zip(captions)
                    .map(move |(card, caption)| answers(card, caption)[q])
            })
            .collect();
        let labels =
            Tensor::<3, Int>::from_data(TensorData::new(labels, [QUESTIONS, rows, 1]), &device);
        let right = logits
            .clone()
            .argmax(2)
            .equal(labels.clone())
            .float()
            .mean();
        let loss = activation::log_softmax(logits, 2)
            .gather(2, labels)
            .mean()
            .neg();
        (loss, right)
    }
}

impl Network for TextProbe {
    fn slots<'a>(&'a mut self, prefix: &str, slots: &mut Slots<'a>) {
        let init = Init::Normal((1.0 / self.width as f32).sqrt());
        slots.add(
            format!("{prefix}questions"),
            &mut self.questions,
            [QUESTIONS, self.width],
            Init::Normal(1.0),
        );
        slots.add(
            format!("{prefix}answers"),
            &mut self.answers,
            [QUESTIONS, self.width, ANSWERS],
            init,
        );
    }
}
