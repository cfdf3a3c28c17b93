"""The texts of a bundle: its installers, and what a reader finds first."""

INSTALL_SH = """\
#!/bin/sh
# Install the bundle without a network: sh install.sh [FOLDER]. PYTHON names another Python.
set -eu
cd "$(dirname "$0")"
folder=${{1:-$HOME/glm4-edge}}
python=${{PYTHON:-python{version}}}
sum() {{ if command -v sha256sum >/dev/null; then sha256sum "$@"; else shasum -a 256 "$@"; fi; }}
sum -c SHA256SUMS >/dev/null || {{ echo "error: the bundle is damaged: copy it again" >&2; exit 1; }}
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != ({version_tuple}))' || {{
    echo "error: this bundle is for Python {version}: set PYTHON to it" >&2
    exit 1
}}
if [ -e "$folder" ]; then echo "error: $folder exists: name another folder" >&2; exit 1; fi
"$python" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip --isolated --disable-pip-version-check install --quiet --no-index \\
    --find-links wheels "glm4-edge[{extras}]=={own_version}"
cp -R models licences kiosk.toml "$folder/"
echo "installed: $folder/venv/bin/edge chat $folder/models/{model}"
echo "a kiosk:   $folder/venv/bin/edge service install $folder/models/{model} --kiosk $folder/kiosk.toml"
"""

INSTALL_PS1 = """\
# Install the bundle without a network: powershell -ExecutionPolicy Bypass -File install.ps1 [FOLDER]
param([string]$Folder = "$env:LOCALAPPDATA\\glm4-edge-app")
$ErrorActionPreference = "Stop"
Set-Location $PSScriptRoot
foreach ($line in Get-Content SHA256SUMS -Encoding UTF8) {{
    $hash, $name = $line -split "  ", 2
    if ((Get-FileHash -LiteralPath $name -Algorithm SHA256).Hash -ne $hash) {{ throw "damaged: $name; copy it again" }}
}}
if (Test-Path -LiteralPath $Folder) {{ throw "$Folder exists: name another folder" }}
py -{version} -m venv "$Folder\\venv"
if ($LASTEXITCODE) {{ throw "this bundle is for Python {version}: install it first" }}
& "$Folder\\venv\\Scripts\\python.exe" -m pip --isolated --disable-pip-version-check install --quiet --no-index `
    --find-links wheels "glm4-edge[{extras}]=={own_version}"
if ($LASTEXITCODE) {{ throw "the wheels cannot be installed" }}
Copy-Item -Recurse models, licences, kiosk.toml $Folder
"installed: $Folder\\venv\\Scripts\\edge.exe chat $Folder\\models\\{model}"
"a kiosk:   $Folder\\venv\\Scripts\\edge.exe service install $Folder\\models\\{model} --kiosk $Folder\\kiosk.toml"
"""

README = """\
# {model}, without a network

For {platform} and Python {version}. {duties}

    sh install.sh FOLDER
    powershell -ExecutionPolicy Bypass -File install.ps1 FOLDER

The first is for Linux and macOS, the second for Windows. Either checks SHA256SUMS, makes a virtual environment from
`wheels`, copies the model, and prints the commands that chat and that start a kiosk. Licences are in `licences`.

用于 {platform} 和 Python {version}，安装时不需要网络：Linux 和 macOS 运行第一条命令，Windows 运行第二条。脚本会校验
SHA256SUMS，用 `wheels` 建立虚拟环境，复制模型，并给出聊天和启动自助终端的命令。许可证在 `licences` 中。
"""

KIOSK = """\
# The kiosk's settings.
system = "You answer visitors. Answer in two sentences."
idle = 60
"""
