import subprocess
import sys

WITHOUT_EGL = """
import ctypes
load = ctypes.CDLL.__init__
def refuse(self, name, *rest, **options):
    if name and "EGL" in str(name):
        raise OSError(f"{name}: cannot open shared object file")
    load(self, name, *rest, **options)
ctypes.CDLL.__init__ = refuse
import rslwm.data.config  # settings need no renderer
print("read")
import rslwm.sim.tabletop
"""


def test_a_machine_without_egl_is_told_what_to_install():
    done = subprocess.run([sys.executable, "-c", WITHOUT_EGL], capture_output=True, text=True)
    assert done.returncode != 0
    assert done.stdout == "read\n"
    assert "ImportError" in done.stderr
    assert "apt-get install libegl1 libgl1" in done.stderr


def test_the_environment_s_choice_of_renderer_is_respected():
    code = "import os; os.environ['MUJOCO_GL'] = 'off'; import rslwm.sim; print(os.environ['MUJOCO_GL'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "off"
