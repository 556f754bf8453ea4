# Sums up where a run spends its time; docs/performance.md says how to record one.
# Reads `perf script -F comm,ip,sym --inline`, whose samples are parted by empty lines, innermost function first.
# A sample counts for the first kind below that a function on its stack names.

BEGIN {
    RS = ""
    FS = "\n"
    split("compressing pictures|waiting|loading|convolutions|attention|products|norms|turning heads|choosing bits|keys and values", kinds, "|")
    named["compressing pictures"] = "png::|fdeflate|miniz|flate2|zlib|crc32|picture_file"
    named["loading"] = "infinity_engine::weights::|dl_main|_dl_start|execve|tokenizer|serde|clap_builder"
    named["convolutions"] = "::conv::"
    named["attention"] = "x86::[a-z]+::(text_)?attention::"
    named["products"] = "::gemm::|::pack::|linear::|columns::"
    named["norms"] = "::norm::"
    named["turning heads"] = "::turn::"
    named["choosing bits"] = "Watcher>::scale|generate::sampling|Run>?::read|runner::doubt"
    named["keys and values"] = "kv_cache|slice_assign|KvCache"
    sleeping = "do_sched_yield|sys_futex|sys_sched_yield|Sleep::sleep"
    idle = "sched_yield|futex|find_work|Sleep::|steal|wait_until_cold|crossbeam_epoch|crossbeam_deque"
}

function kind_of(sample, inner,    i) {
    for (i = 1; i in kinds; i++) {
        if (kinds[i] == "waiting" ? inner ~ idle || sample ~ sleeping : sample ~ named[kinds[i]]) {
            return kinds[i]
        }
    }
    return "all else"
}

NF > 1 { count[kind_of($0, $2 "\n" $3)]++ }

END {
    for (kind in count) {
        if (kind != "compressing pictures") {
            all += count[kind]
        }
    }
    for (kind in count) {
        if (kind != "compressing pictures") {
            printf "%5.1f %% %s\n", 100 * count[kind] / all, kind | "sort -rn"
        }
    }
    close("sort -rn")
    printf "of %d samples, beside %d of compressing pictures\n", all, count["compressing pictures"]
}
