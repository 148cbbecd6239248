//! Joint attention over text and image tokens (arXiv:2403.03206 fig. 2) and adaptive layer norm. FLUX.1, FLUX.2 and Qwen-Image use
//! the same weight names for both.

use super::timestep::sinusoid;
use crate::onnx::{Attention, Rotary, Scope, Value};

/// ε of every norm of these networks.
pub(crate) const EPS: f32 = 1e-6;

/// Constructor of a linear layer: [`Scope::linear`] or [`Scope::linear_no_bias`].
pub(crate) type Linear = fn(&Scope, &str, &Value, usize) -> Value;

/// Joint attention: each stream has separate projections, and every token attends to both streams.
pub(crate) struct Joint {
    /// Attention heads.
    pub heads: usize,
    /// Positions in the order text, image.
    pub rotary: Rotary,
    /// With or without biases.
    pub linear: Linear,
}

impl Joint {
    /// Attention of image tokens `x` [n, i, d] and text tokens `c` [n, t, d], after the output projection of each stream.
    pub(crate) fn attend(&self, w: &Scope, x: &Value, c: &Value) -> (Value, Value) {
        let mixed = self.both(w, x, c);
        (self.image(w, &mixed, x, c), self.project(w, "to_add_out", &mixed.slice(1, 0, c.dim(1))))
    }

    /// [`Joint::attend`] for the image stream alone: the last block does not need the text.
    pub(crate) fn attend_image(&self, w: &Scope, x: &Value, c: &Value) -> Value {
        self.image(w, &self.both(w, x, c), x, c)
    }

    fn image(&self, w: &Scope, mixed: &Value, x: &Value, c: &Value) -> Value {
        let t = c.dim(1);
        self.project(w, "to_out.0", &mixed.slice(1, &t, &t + x.dim(1)))
    }

    fn project(&self, w: &Scope, name: &str, x: &Value) -> Value {
        (self.linear)(w, name, x, x.size(-1))
    }

    /// Attention over text and image: [n, t + i, d].
    fn both(&self, w: &Scope, x: &Value, c: &Value) -> Value {
        let norm = |name, v: &Value| w.head_norm(name, v, self.heads, EPS);
        let join = |text: Value, image: Value| Value::concat(&[&text, &image], 1);
        let q =
            join(norm("norm_added_q", &self.project(w, "add_q_proj", c)), norm("norm_q", &self.project(w, "to_q", x)));
        let k =
            join(norm("norm_added_k", &self.project(w, "add_k_proj", c)), norm("norm_k", &self.project(w, "to_k", x)));
        let v = join(self.project(w, "add_v_proj", c), self.project(w, "to_v", x));
        self.mix(&q, &k, &v)
    }

    /// Attention over one sequence with rotary positions: q, k, v [n, s, d] → [n, s, d].
    pub(crate) fn mix(&self, q: &Value, k: &Value, v: &Value) -> Value {
        let [q, k] = [q, k].map(|x| x.rope(self.heads, &self.rotary));
        q.attention(&k, v, self.heads, &Attention::default())
    }
}

/// adaLN (arXiv:2212.09748): layer norm of `x` [n, t, d], then scale and shift [n, 1, d]; the nodes are named after `w`.
pub(crate) fn modulate(w: &Scope, x: &Value, shift: &Value, scale: &Value) -> Value {
    w.enter();
    x.layer_norm(EPS) * (scale + 1.0) + shift
}

/// Embeds σ or the guidance scale, `[n]` → [n, hidden_size]: a sinusoid of 256 features at 1000 times the value, then two linear
/// layers.
pub(crate) fn embedded(w: &Scope, linear: Linear, number: &Value, hidden_size: usize) -> Value {
    linear(w, "linear_2", &linear(w, "linear_1", &sinusoid(&(number * 1000.0), 256), hidden_size).silu(), hidden_size)
}
