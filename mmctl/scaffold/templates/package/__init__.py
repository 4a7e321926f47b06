"""The my_kind `my_component` for mmctl."""
