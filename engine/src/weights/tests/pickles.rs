//! `PyTorch` checkpoints made by hand, kind and unkind.

use super::super::NumberType;
use super::*;

/// A checksum as in ZIP files.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

/// An archive of uncompressed files.
fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut directory = Vec::new();
    for (name, bytes) in files {
        let start = out.len() as u32;
        let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
        common.extend(crc32(bytes).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((bytes.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        out.extend(b"PK\x03\x04");
        out.extend(&common);
        out.extend(name.as_bytes());
        out.extend(*bytes);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&common);
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = out.len() as u32;
    out.extend(&directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend((files.len() as u16).to_le_bytes());
    out.extend((files.len() as u16).to_le_bytes());
    out.extend((directory.len() as u32).to_le_bytes());
    out.extend(start.to_le_bytes());
    out.extend([0, 0]);
    out
}

/// Pickle text for a string.
fn text(value: &str) -> Vec<u8> {
    [
        b"X".as_slice(),
        &(value.len() as u32).to_le_bytes(),
        value.as_bytes(),
    ]
    .concat()
}

/// Pickle text that rebuilds a tensor over storage `key`, as `torch.save` writes it.
fn tensor(storage: &str, key: &str, count: u8, shape: &[u8], stride: &[u8]) -> Vec<u8> {
    let numbers = |list: &[u8]| {
        [
            b"(".to_vec(),
            list.iter().flat_map(|n| [b'K', *n]).collect(),
            b"t".to_vec(),
        ]
        .concat()
    };
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(text("storage"));
    out.extend(format!("ctorch\n{storage}\n").bytes());
    out.extend(text(key));
    out.extend(text("cpu"));
    out.extend([b'K', count, b't', b'Q', b'K', 0]);
    out.extend(numbers(shape));
    out.extend(numbers(stride));
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    out
}

/// Pickle text for a dictionary of these entries.
fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries: Vec<u8> = entries
        .iter()
        .flat_map(|(name, value)| [text(name), value.clone()].concat())
        .collect();
    [b"}(".as_slice(), &entries, b"u"].concat()
}

/// A whole pickle.
fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

const VALUES: [f32; 6] = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];

/// A checkpoint of `root` with two storages: six values, then three.
fn archive(root: &[u8]) -> Vec<u8> {
    let first: Vec<u8> = VALUES.iter().flat_map(|v| v.to_le_bytes()).collect();
    let second: Vec<u8> = [7.0_f32, 8.0, 9.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    zip(&[
        ("archive/data.pkl", &pickle(root)),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &first),
        ("archive/data/1", &second),
        ("archive/version", b"3\n"),
    ])
}

fn weights() -> Vec<u8> {
    dict(&[
        (
            "conv_in.conv.weight",
            tensor("FloatStorage", "0", 6, &[2, 3], &[3, 1]),
        ),
        (
            "conv_in.conv.bias",
            tensor("FloatStorage", "1", 3, &[3], &[1]),
        ),
    ])
}

/// A checkpoint that fits [`Tiny`].
pub(super) fn checkpoint() -> Vec<u8> {
    archive(&weights())
}

#[test]
fn a_checkpoint_loads() {
    let folder = folder();
    let path = write(&folder, "tiny.pth", &checkpoint());
    let mut tiny = Tiny::new(1);
    load(&mut tiny, &path).unwrap();
    assert_eq!(
        tiny.values(),
        [VALUES.as_slice(), &[7.0, 8.0, 9.0]].concat()
    );
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.dtype("conv_in.conv.bias"), Some(NumberType::F32));
    assert_refused(file.read_f32("absent"), &path);
}

#[test]
fn weights_are_found_where_publishers_put_them() {
    let folder = folder();
    let other = dict(&[(
        "conv_in.conv.weight",
        tensor("FloatStorage", "1", 3, &[3], &[1]),
    )]);
    let tokenizer = dict(&[
        ("vae", weights()),
        ("image_disc", other.clone()),
        ("step", b"K\x07".to_vec()),
    ]);
    let trainer = dict(&[
        ("vae_local", other.clone()),
        ("gpt_fsdp", weights()),
        ("gpt_fsdp_opt", other.clone()),
    ]);
    let training = dict(&[
        ("args", dict(&[("lr", text("1e-4"))])),
        ("trainer", trainer),
    ]);
    for root in [&tokenizer, &training] {
        load(&mut Tiny::new(1), &write(&folder, "a.pth", &archive(root))).unwrap();
    }
    let path = write(&folder, "a.pth", &archive(&training));
    let file = WeightFile::open_with_key(&path, &["trainer", "vae_local"]).unwrap();
    assert_eq!(
        file.read_f32("conv_in.conv.weight").unwrap(),
        [7.0, 8.0, 9.0]
    );
    let file = WeightFile::open_with_key(&path, &[]).unwrap();
    assert!(file.contains("trainer.gpt_fsdp.conv_in.conv.bias"));
    for keys in [
        ["trainer", "absent"],
        ["absent", "gpt_fsdp"],
        ["args", "lr"],
    ] {
        assert_refused(WeightFile::open_with_key(&path, &keys), &path);
    }
}

#[test]
fn a_turned_tensor_is_turned_back() {
    let folder = folder();
    let root = dict(&[("a", tensor("FloatStorage", "0", 6, &[3, 2], &[1, 3]))]);
    let file = WeightFile::open(write(&folder, "a.pth", &archive(&root))).unwrap();
    assert_eq!(file.read_f32("a").unwrap(), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
}

#[test]
fn integers_are_listed_and_not_read() {
    let folder = folder();
    let root = dict(&[("mask", tensor("LongStorage", "0", 3, &[3], &[1]))]);
    let path = write(&folder, "a.pth", &archive(&root));
    let file = WeightFile::open(&path).unwrap();
    assert_eq!(file.dtype("mask"), Some(NumberType::Other));
    assert_refused(file.read_f32("mask"), &path);
}

#[test]
fn tensors_that_claim_too_much_are_refused() {
    let folder = folder();
    // Stride zero repeats one value without end.
    let repeated = tensor("FloatStorage", "0", 1, &[255, 255, 255], &[0, 0, 0]);
    let beyond = tensor("FloatStorage", "0", 6, &[7], &[1]);
    let absent = tensor("FloatStorage", "5", 6, &[6], &[1]);
    for value in [repeated, beyond, absent] {
        let path = write(&folder, "a.pth", &archive(&dict(&[("a", value)])));
        assert_refused(
            WeightFile::open(&path).and_then(|file| file.read_f32("a")),
            &path,
        );
    }
}

#[test]
fn one_name_spelled_by_two_paths_is_refused() {
    let folder = folder();
    let one = || tensor("FloatStorage", "0", 6, &[6], &[1]);
    let root = dict(&[("a.b", one()), ("a", dict(&[("b", one())]))]);
    let path = write(&folder, "a.pth", &archive(&root));
    assert_refused(WeightFile::open(&path), &path);
}

#[test]
fn foreign_objects_are_refused_and_never_run() {
    let folder = folder();
    let proof = folder.path().join("ran");
    let command = format!("touch {}", proof.display());
    let call = |name: &str| [format!("c{name}\n(").as_bytes(), &text(&command), b"tR"].concat();
    let beside = |value: Vec<u8>| {
        let mut root = weights();
        root.pop();
        [root, text("extra"), value, b"u".to_vec()].concat()
    };
    let by_stack = [
        text("os"),
        text("system"),
        b"\x93(".to_vec(),
        text(&command),
        b"tR".to_vec(),
    ]
    .concat();
    let instance = [b"cshutil\nrmtree\n(".as_slice(), &text(&command), b"t\x81"].concat();
    let built = [call("builtins\nobject"), b"}b".to_vec()].concat();
    let mut roots = vec![
        by_stack.clone(),
        instance.clone(),
        call("os\nsystem"),
        beside(b"cos\nsystem\n".to_vec()),
    ];
    roots.push(format!("cos\nsystem\n(S'{command}'\ntR").into_bytes());
    roots.push(format!("(S'{command}'\nios\nsystem\n").into_bytes());
    for value in [
        by_stack,
        instance,
        built,
        call("posix\nsystem"),
        call("builtins\neval"),
        call("torch\nload"),
    ] {
        roots.push(beside(value.clone()));
        roots.push(dict(&[("vae", weights()), ("extra", value)]));
    }
    // Extension codes, out-of-band buffers, bytes that are no instruction.
    roots.extend([
        beside(b"\x82\x01".to_vec()),
        beside(b"\x97".to_vec()),
        beside(b"\xff".to_vec()),
    ]);
    for root in roots {
        for bytes in [
            archive(&root),
            pickle(&root),
            [root.as_slice(), b"."].concat(),
        ] {
            let path = write(&folder, "foreign.pth", &bytes);
            assert_refused(WeightFile::open(&path), &path);
        }
    }
    assert!(!proof.exists());
}

#[test]
fn deep_dictionaries_do_not_exhaust_the_stack() {
    let folder = folder();
    let deep = (0..990).fold(tensor("FloatStorage", "0", 6, &[6], &[1]), |inner, _| {
        dict(&[("a", inner)])
    });
    let file = WeightFile::open(write(&folder, "deep.pth", &archive(&deep))).unwrap();
    assert_eq!(file.len(), 1);
}

#[test]
fn pickles_that_grow_or_nest_without_end_are_refused() {
    let folder = folder();
    let nested = [vec![b']'; 100_000], vec![b'a'; 99_999]].concat();
    // Each round puts the list so far into itself ten times.
    let doubled: Vec<u8> = (0..60_u8)
        .flat_map(|i| [vec![b'q', i, b'('], [b'h', i].repeat(10), vec![b'l']].concat())
        .collect();
    let doubled = [b"]".to_vec(), doubled].concat();
    for value in [nested, doubled] {
        let path = write(&folder, "bomb.pth", &archive(&dict(&[("a", value)])));
        assert_refused(WeightFile::open(&path), &path);
    }
}
