/* The names that model publishers use: those of Hugging Face repositories, of diffusers pipelines (a folder a part), of
 * sentence-transformers (a folder a layer), of scikit-learn, Keras, TensorFlow and MLflow. Rules are tried in order and
 * the first that matches wins, so that "tokenizer_config.json" is met before "*config.json"; matching ignores case.
 */
#include "artifact/role.h"

#include <ctype.h>
#include <limits.h>
#include <stddef.h>
#include <string.h>

#include "artifact/glob.h"

struct rule {
    const char *pattern; /* of the base name */
    enum hearth_role role;
};

static const struct rule rules[] = {
    /* Indexes of shards speak about weights but hold none. */
    {"*.index.json", HEARTH_ROLE_METADATA},

    {"tokenizer*.json", HEARTH_ROLE_TOKENIZER},
    {"tokenizer*.model*", HEARTH_ROLE_TOKENIZER},
    {"tekken.json", HEARTH_ROLE_TOKENIZER},
    {"vocab*", HEARTH_ROLE_TOKENIZER},
    {"merges.txt", HEARTH_ROLE_TOKENIZER},
    {"added_tokens.json", HEARTH_ROLE_TOKENIZER},
    {"special_tokens_map.json", HEARTH_ROLE_TOKENIZER},
    {"sentencepiece*.model", HEARTH_ROLE_TOKENIZER},
    {"spiece.model", HEARTH_ROLE_TOKENIZER},
    {"spm.model", HEARTH_ROLE_TOKENIZER},
    {"*.bpe.model", HEARTH_ROLE_TOKENIZER},
    {"source.spm", HEARTH_ROLE_TOKENIZER},
    {"target.spm", HEARTH_ROLE_TOKENIZER},
    {"*.tiktoken", HEARTH_ROLE_TOKENIZER},
    {"chat_template.*", HEARTH_ROLE_TOKENIZER},
    {"normalizer.json", HEARTH_ROLE_TOKENIZER}, /* of Whisper: spellings */

    {"preprocessor_config.json", HEARTH_ROLE_PREPROCESSING},
    {"processor_config.json", HEARTH_ROLE_PREPROCESSING},
    {"*_processor_config.json", HEARTH_ROLE_PREPROCESSING},
    {"*_preprocessor_config.json", HEARTH_ROLE_PREPROCESSING},
    {"feature_extractor_config.json", HEARTH_ROLE_PREPROCESSING},
    {"mel_filters.*", HEARTH_ROLE_PREPROCESSING},
    {"normalizer.*", HEARTH_ROLE_PREPROCESSING},
    {"scaler.*", HEARTH_ROLE_PREPROCESSING},
    {"preprocess*.pkl", HEARTH_ROLE_PREPROCESSING},
    {"preprocess*.joblib", HEARTH_ROLE_PREPROCESSING},

    {"training_args.bin", HEARTH_ROLE_METADATA},
    {"optimizer.*", HEARTH_ROLE_METADATA},
    {"scheduler.pt", HEARTH_ROLE_METADATA},
    {"rng_state*.pth", HEARTH_ROLE_METADATA},

    {"*.safetensors", HEARTH_ROLE_WEIGHTS},
    {"*.gguf", HEARTH_ROLE_WEIGHTS},
    {"*.ggml", HEARTH_ROLE_WEIGHTS},
    {"*.bin", HEARTH_ROLE_WEIGHTS},
    {"*.pt", HEARTH_ROLE_WEIGHTS},
    {"*.pt2", HEARTH_ROLE_WEIGHTS},
    {"*.pth", HEARTH_ROLE_WEIGHTS},
    {"*.ckpt", HEARTH_ROLE_WEIGHTS},
    {"*.ckpt.data-*", HEARTH_ROLE_WEIGHTS},
    {"*.ckpt.index", HEARTH_ROLE_WEIGHTS},
    {"*.h5", HEARTH_ROLE_WEIGHTS},
    {"*.hdf5", HEARTH_ROLE_WEIGHTS},
    {"*.keras", HEARTH_ROLE_WEIGHTS},
    {"*.msgpack", HEARTH_ROLE_WEIGHTS},
    {"*.ot", HEARTH_ROLE_WEIGHTS},
    {"*.onnx", HEARTH_ROLE_WEIGHTS},
    {"*.onnx_data*", HEARTH_ROLE_WEIGHTS},
    {"*.onnx.data", HEARTH_ROLE_WEIGHTS},
    {"*.tflite", HEARTH_ROLE_WEIGHTS},
    {"*.mlmodel", HEARTH_ROLE_WEIGHTS},
    {"*.pb", HEARTH_ROLE_WEIGHTS},
    {"variables.data-*", HEARTH_ROLE_WEIGHTS},
    {"variables.index", HEARTH_ROLE_WEIGHTS},
    {"*.npy", HEARTH_ROLE_WEIGHTS},
    {"*.npz", HEARTH_ROLE_WEIGHTS},
    {"*.pkl", HEARTH_ROLE_WEIGHTS},
    {"*.pickle", HEARTH_ROLE_WEIGHTS},
    {"*.joblib", HEARTH_ROLE_WEIGHTS},
    {"*.skops", HEARTH_ROLE_WEIGHTS},
    {"*.engine", HEARTH_ROLE_WEIGHTS},
    {"*.plan", HEARTH_ROLE_WEIGHTS},
    {"*.nemo", HEARTH_ROLE_WEIGHTS},

    {"sha256sums", HEARTH_ROLE_METADATA},
    {"*.sha256", HEARTH_ROLE_METADATA},
    {"*.sig", HEARTH_ROLE_METADATA},
    {"*.sigstore*", HEARTH_ROLE_METADATA},
    {"mlmodel", HEARTH_ROLE_METADATA},
    {"readme*", HEARTH_ROLE_METADATA},
    {"license*", HEARTH_ROLE_METADATA},
    {"licence*", HEARTH_ROLE_METADATA},
    {"notice*", HEARTH_ROLE_METADATA},
    {"use_policy*", HEARTH_ROLE_METADATA},
    {"*.md", HEARTH_ROLE_METADATA},
    {".gitattributes", HEARTH_ROLE_METADATA},
    {".gitignore", HEARTH_ROLE_METADATA},
    {"metadata.json", HEARTH_ROLE_METADATA},
    {"trainer_state.json", HEARTH_ROLE_METADATA},
    {"*_results.json", HEARTH_ROLE_METADATA},
    {"*metrics*.json", HEARTH_ROLE_METADATA},
    {"fingerprint.pb", HEARTH_ROLE_METADATA},
    {"requirements*.txt", HEARTH_ROLE_METADATA},
    {"conda.yaml", HEARTH_ROLE_METADATA},
    {"python_env.yaml", HEARTH_ROLE_METADATA},

    {"config.pbtxt", HEARTH_ROLE_CONFIG},
    {"params.json", HEARTH_ROLE_CONFIG},
    {"modules.json", HEARTH_ROLE_CONFIG},
    {"model_index.json", HEARTH_ROLE_CONFIG},
    {"*config*.json", HEARTH_ROLE_CONFIG},
    {"*.yaml", HEARTH_ROLE_CONFIG},
    {"*.yml", HEARTH_ROLE_CONFIG},
    {"*.toml", HEARTH_ROLE_CONFIG},
    {"*.ini", HEARTH_ROLE_CONFIG},
    {"openvino_*.xml", HEARTH_ROLE_CONFIG},

    {"*.py", HEARTH_ROLE_CODE},
    {"*.ipynb", HEARTH_ROLE_CODE},
    {"*.so", HEARTH_ROLE_CODE},
    {"*.sh", HEARTH_ROLE_CODE},
    {"*.cu", HEARTH_ROLE_CODE},
    {"*.[ch]pp", HEARTH_ROLE_CODE},
    {"*.cc", HEARTH_ROLE_CODE},
};

enum hearth_role role_of(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    char lower[NAME_MAX + 1];
    size_t n = 0;
    for (; name[n] && n < NAME_MAX; n++)
        lower[n] = (char)tolower((unsigned char)name[n]);
    lower[n] = '\0';
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
        if (glob_match(rules[i].pattern, lower))
            return rules[i].role;
    return HEARTH_ROLE_OTHER;
}
