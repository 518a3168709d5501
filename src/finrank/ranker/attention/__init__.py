"""How the candidates of a question share one prefix, from token ids to one vector per candidate.

    EncodedPool       prefix p p p, candidates a a and b
         |
         |  routes.VECTORS[route]             which route: routes.choose_route, verified by check.check_route
         v
    naive             rows p p p a a | p p p b            each candidate with its own prefix
    mask              row  p p p a a b                    packed_row: who sees whom is in `attention_mask`
    split             stream p p p a a b | q q c ...      stream: who sees whom is in `layout`, a CandidatePass
    cached            stream p p p | q q ...              a PrefixPass keeps keys and values, and a
                      stream a a b | c ...                CandidatePass per chunk reads them
         |
         |  encoder(input_ids=, position_ids=, attention_mask= or layout=, pooled=); transformers passes
         |  unknown keyword arguments on to each layer, and these to the attention function
         v
    every layer       shared_prefix.shared_prefix_attention, registered with transformers by name: layout.attend(...)
         |            where there is a layout, else SDPA under the mask
    last layer        hooks of last_layer let only the rows in `pooled` through the feed-forward block
         v
    last_hidden_state   pooled per candidate (mean or last token): [all candidates, width] in float32, for the head

Positions restart after the prefix on all routes, so that each candidate is where it would be alone. No layer of a model
is rewritten. tuning.Tuning holds every limit and tolerance.
"""
