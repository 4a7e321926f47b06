"""The project's own components: plugins/x.py is imported as mmctl.local.x.

A real package, so that objects of a plugin can be pickled and timm.register_model finds their module.
"""

from mmctl.project import plugins_dir

__path__.append(str(plugins_dir()))
