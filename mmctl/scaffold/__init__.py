"""Writes new components: from a template, or from the source of a built-in one, with tests and a recipe.

May import recipe, registry, and the ground. The templates are ordinary files in templates/, which mmctl does not
import; their tests use mmctl.testing. Each stands alone, even with lines that mmctl has too: authors change them all.
"""
