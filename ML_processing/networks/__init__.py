"""The networks that can be trained, a module each, by the names that train.model has for them."""
