"""The project's plugins: plugins/x.py is imported as mmctl.local.x.

A real package, because pickle and timm.register_model import a plugin's module by its name.
"""

from mmctl.project import plugins_dir

__path__.append(str(plugins_dir()))
