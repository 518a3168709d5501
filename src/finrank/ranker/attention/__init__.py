"""How the candidates of a question share one prefix, from token ids to one vector per candidate.

    EncodedPool       prefix p p p, candidates a a and b
         |
         |  routes.VECTORS[route]             which route: routes.choose_route, verified by check.check_route
         v
    naive             rows p p p a a | p p p b            each candidate with its own prefix
    mask              row  p p p a a b                    packed_row: who sees whom is in `attention_mask`
    split             stream p p p a a b | q q c ...      stream: who sees whom is in `layout`, a WholePass
    cached            stream p p p | q q ...              then in a PrefixPass, which keeps keys and values,
                      stream a a b | c ...                and a CandidatePass per chunk, which reads them
         |
         |  encoder(input_ids=, position_ids=, attention_mask= or layout=, pooled=)
         v
    transformers      hands unknown keyword arguments on to each layer, and these to the attention function
         |
         |-- every layer: shared_prefix.shared_prefix_attention, registered with transformers by name, calls
         |                layout.attend(...) where there is a layout, and SDPA under the mask otherwise
         |-- last layer:  hooks of last_layer take the rows in `pooled` out before the feed-forward block and put its
         |                output back among zeros. Llama's block takes no keyword arguments, so a hook on the attention
         |                before it notes `pooled` in a thread-local
         v
    last_hidden_state   pooled per candidate (mean or last token): [all candidates, width] in float32, for the head

Positions restart after the prefix on all routes, so that each candidate is where it would be alone. No layer of a model
is rewritten. tuning.Tuning holds every limit in tokens and every tolerance.
"""
