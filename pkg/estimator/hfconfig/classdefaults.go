// Copyright The Berth Authors.
// SPDX-License-Identifier: Apache-2.0

package hfconfig

// classDefaults returns the values that the class of a language model inside of a larger one has for dimensions that its
// part of the configuration leaves out, as those of LLaVA do (transformers, configuration_llama.py and others).
func classDefaults(text fields) fields {
	defaults := map[string]string{
		"llama":   `{"hidden_size":4096,"intermediate_size":11008,"num_hidden_layers":32,"num_attention_heads":32,"vocab_size":32000}`,
		"mistral": `{"hidden_size":4096,"intermediate_size":14336,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":8,"vocab_size":32000}`,
		"qwen2":   `{"hidden_size":4096,"intermediate_size":22016,"num_hidden_layers":32,"num_attention_heads":32,"num_key_value_heads":32,"vocab_size":151936}`,
	}[text.str("model_type")]
	f, err := parse([]byte(defaults))
	if err != nil {
		return nil // a class that is not here
	}
	return f
}
