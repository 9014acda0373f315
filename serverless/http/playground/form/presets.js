// What each kind of sound sets of the values that a person leaves alone. The server's own table is the same; a test
// compares the two.

const EXAMPLES = { temperature: 1.0, top_p: 0.95, top_k: 50 };
const WATCHED = { ras_win_len: 7, ras_win_max_num_repeat: 2 };

export const PRESETS = {
  speech: {},
  expressive: { ...EXAMPLES, ...WATCHED },
  stable: { temperature: 0.2, top_p: 0.9, top_k: 30, ...WATCHED },
  music: { ...EXAMPLES, ras_win_len: null },
  humming: { ...EXAMPLES, ras_win_len: null },
};

/** What holds where nothing is set: the server's defaults under a preset. */
export const withPreset = (defaults, preset) => ({ ...defaults, ...PRESETS[preset] });
