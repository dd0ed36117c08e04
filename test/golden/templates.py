# Makes templates.json: what Jinja on Python, with transformers' settings, makes of chat templates. null: it refuses.
#   pip install jinja2==3.1.6 && python3 test/golden/templates.py
import json
import pathlib

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


def refuse(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
environment.filters["tojson"] = tojson
environment.globals["raise_exception"] = refuse

SAID = [
    {"role": "system", "content": " Be brief.\n"},
    {"role": "user", "content": "  Héllo wörld 🎉, it's \"me\"\n"},
    {"role": "assistant", "content": "<think>\nhm, hm\n</think>\n\n    return 1\n\n"},
    {"role": "user", "content": "a,b;c d\te"},
]

CHATML = (
    "{%- if messages[0]['role'] == 'system' %}\n{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
    "{%- else %}\n{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' }}\n{%- endif %}\n"
    "{%- for message in messages %}\n"
    "    {%- if (message.role == 'user') or (message.role == 'system' and not loop.first) %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
    "    {%- elif message.role == 'assistant' %}\n"
    "        {{- '<|im_start|>' + message.role }}\n        {%- if message.content %}\n"
    "            {{- '\\n' + message.content }}\n        {%- endif %}\n        {{- '<|im_end|>\\n' }}\n"
    "    {%- endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
)
THINKING = (
    "{%- set ns = namespace(last=messages|length - 1, open=true) %}\n"
    "{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n"
    "    {%- if ns.open and message.role == 'user' and message.content is string and not"
    "(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}\n"
    "        {%- set ns.open = false %}\n        {%- set ns.last = index %}\n    {%- endif %}\n{%- endfor %}\n"
    "{%- for message in messages %}\n    {%- if message.content is string %}\n        {%- set content = message.content %}\n"
    "    {%- else %}\n        {%- set content = '' %}\n    {%- endif %}\n"
    "    {%- if message.role == 'assistant' %}\n        {%- set thought = '' %}\n"
    "        {%- if message.thought is string %}\n            {%- set thought = message.thought %}\n        {%- else %}\n"
    "            {%- if '</think>' in content %}\n"
    "                {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}\n"
    "                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}\n"
    "            {%- endif %}\n        {%- endif %}\n"
    "        {%- if loop.index0 > ns.last - 2 and (loop.last or thought) %}\n"
    "            {{- '<|im_start|>assistant\\n<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}\n"
    "        {%- else %}\n            {{- '<|im_start|>' + message.role + '\\n' + content }}\n        {%- endif %}\n"
    "        {{- '<|im_end|>\\n' }}\n    {%- else %}\n"
    "        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
)
HEADERS = (
    "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n"
    "    {%- set system = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n"
    "    {%- set system = \"\" %}\n{%- endif %}\n"
    "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{{- system }}\n{{- \"<|eot_id|>\" }}\n"
    "{%- for message in messages %}\n"
    "    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n"
    "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n"
    "    {%- elif 'tool_calls' in message %}\n        {{- raise_exception(\"no tools\") }}\n    {%- endif %}\n{%- endfor %}\n"
)
BARE = (
    "{% for message in messages %}\n{% if loop.first and messages[0]['role'] != 'system' %}\nno system\n{% endif %}\n"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}\n{% endfor %}\n"
)

TEMPLATES = [CHATML, THINKING, HEADERS, BARE] + [t.replace("\n", "\r\n") for t in (CHATML, THINKING, HEADERS, BARE)]

# Of single expressions: x is a text, o an object, u is not there.
EXPRESSIONS = """
x.strip() | x.strip(' \\n') | x.lstrip() | x.rstrip() | x.lstrip(' H') | x.rstrip('\\n"') | '\\n\\n    a\\n'.lstrip('\\n')
'xxaxx'.strip('x') | 'abc'.strip('') | 'a\\u0085'.strip() | '\\ufeffa'.strip() | 'a\\x1c'.strip() | x.strip(none)
x | trim | u | trim | none | trim | o | trim | 1.5 | trim | ' xax ' | trim(' x') | x | trim('\\n')
x.split() | x.split(' ') | x.split(' ', 1) | 'a b  c'.split(none, 1) | x.split(',') | 'a,b,c'.rsplit(',', 1) | 'a b c'.rsplit()
x.split('</think>')[-1] | 'a</think>b'.split('</think>')[0] | x[0] | x[2:5] | x[-2] | x[14] | x[13:16] | x | length | u | length
o | string | o | tojson | o | tojson(indent=2) | o | tojson(true) | o | tojson(sort_keys=true) | o | tojson(separators=(',', ':')) | o
o.items() | list | length | o.keys() | list | {'f': 1.0} | tojson | {'f': 1.0} | [1.0, 2] | tojson(indent=1) | o.f | o.f + 1 | o.f | string | o.f ~ '' | 1e3 | o.list | o.list | string | o.list | tojson | o.none
o.yes | o.yes | string | o.yes ~ o.none ~ u ~ 1 ~ 1.0 ~ 'x' | [1, 1.0, 'a', none, true] | (1, 2) | (1,) | [] | {} | {'a': "it's"} | ["\\n'\\""]
1.0 | 0.1 | 100000000000000000000.0 | 0.00001 | 1 / 3 | 4 / 2 | 7 // 2 | 7.0 // 2 | -7 // 2 | 7 % 3 | 2 ** 3 | 1.5e3
none | true | false | u | 'a' + 1 | 'a' + none | 'a' + u | [1] + [2] | 'a' ~ none | 'a' * 3
1 == 1.0 | '1' == 1 | none == u | u == u | [1, 2] == [1, 2] | {'a': 1} == {'a': 1.0} | true == 1 | '' == 0 | (1, 2) == [1, 2] | 'a' != none
1 in [1, 2] | none in [none] | u in [1] | 1 in u | 'a' in 'cat' | 'a' in o | 'f' in o | [1] in [[1]] | 'x' not in x | 1 in 'a'
u.a | none.a | o.missing | o.missing.a | x.missing | x.length | o.list.length | o['list'][0] | o[0] | o.list[5] | messages[0].content.missing
x | upper | x | lower | 'hELLO wORLD' | capitalize | 'hELLO wORLD-foo' | title | 'hELLO'.capitalize() | "they're bill's".title() | u | upper
['a', none, 1.0, true] | join(', ') | ['a', 'b'] | join | x | join('-') | [] | join(',') | u | join | ', '.join(['a', 'b']) | ['a'] | join(d='-')
[] | first | [1, 2] | first | [1, 2] | last | 'abc' | first | u | first | [3, 1, 2] | sort | ['b', 'A'] | sort | [1, 2] | reverse | list | 'ab' | list
'12' | int | '12a' | int | ' 7 ' | int | '1.9' | int | 1.9 | int | -1.5 | int | none | int | 'x' | int(5) | true | int | '1_000' | int
u | default('d') | none | default('d') | '' | default('d', true) | u | default | u | d('x') | '' | default('d', boolean=true) | o.none | default('n', true)
'aXbXc' | replace('X', '-') | 'aXbXc' | replace('X', '-', 1) | 'abc'.replace('', '-') | 'aXbXc'.replace('X', '') | 'aaa'.replace('a', 'b', 2)
'a\\nb\\n\\nc' | indent | 'a\\nb' | indent(2) | 'a\\nb' | indent(2, true) | 'a\\nb' | indent(width=3, first=true)
u is defined | none is defined | none is none | x is string | o is mapping | [] is sequence | o is iterable | u is iterable | 1 is iterable | true is number | 1.0 is number
x is iterable | (1, 2) is iterable | (1, 2) is sequence | o is sequence | 1 is sequence | true is integer | true is boolean | u is undefined | x is not string | 'a' is lower
messages | map(attribute='role') | list | messages | selectattr('role', 'equalto', 'user') | list | length | messages | rejectattr('role', 'equalto', 'user') | map(attribute='role') | join(',')
'a' if u | 'a' if u else 'b' | u or 'x' | x and 'y' | not u | not o | not [] | not none | messages[0] | messages[0] | tojson | messages | length
range(3) | list | range(1, 7, 2) | list | range(3, 0, -1) | list | 'a' 'b' | [1, 2, 3][::-1] | [1, 2, 3][-2:] | x[::-1] | 'é' | upper | 'ß' | upper | '\\u2028' | tojson
""".strip()

STATEMENTS = [
    "{% for i in [1, 2, 3] %}{% if i == 2 %}{% set y = i %}{% endif %}[{{ y }}]{% endfor %}",
    "{% for i in [1, 2, 3] %}a{{ i }}{% if i == 2 %}b{% continue %}{% endif %}c{% endfor %}",
    "{% for i in [1, 2, 3] %}a{{ i }}{% if i == 2 %}b{% break %}{% endif %}c{% endfor %}",
    "{% for c in 'aé🎉' %}{{ c }},{% endfor %}",
    "{% for k in o %}{{ k }},{% endfor %}",
    "{% for k, v in o.items() %}{{ k }}={{ v }},{% endfor %}",
    "{% for i in u %}x{% else %}none{% endfor %}",
    "{% for i in none %}x{% endfor %}",
    "{% for i in [1, 2, 3] if i != 2 %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ ',' if not loop.last }}{% endfor %}",
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}>{{ m.role }} {% endfor %}",
    "{% set y = 1 %}{% for i in [1, 2] %}{% set y = y + 1 %}{{ y }}{% endfor %}{{ y }}",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.content | length %}{% endfor %}{{ ns.n }}",
    "{% set y %}a {{ x | trim }}{% endset %}[{{ y }}]",
    "{% macro f(a, b='z') %}({{ a }}{{ b }}){% endmacro %}{{ f(1) }}{{ f('a', none) }}{{ f(b=1.0, a=u) }}",
    "{% filter upper %}a{{ none }}b{% endfilter %}",
    "{%- if u -%} a {%- elif o -%} b {%- else -%} c {%- endif -%} ",
    "{# a comment #}\n  {% if true %}\n  x\n  {% endif %}\n",
    "a\r\n{% if true %}\r\nb\r\n{% endif %}\r\nc\r\n",
    "a\r{% if true %}\rb{% endif %}\r",
    "  {{ 1 }}\n\n",
    "{{ messages[1].content }}|{{ 'a\r\nb' }}",
    "{{ x.strip('\n') + '\n' }}",
    "a {{- 1 -}} b {{ 2 }} c",
    "a\n  {%+ if true %}x{% endif %}\n  {%- if true +%}\ny{% endif %}",
    "\t{% if true %}\n\t\t{{ 1 }}\n\t{% endif %}\nz {% if true %}\n{% endif %}",
    "{% if x == '{% if %}\n' %}{% endif %}",
    "{% raw %}{{ x }}{% endraw %}",
    "{% macro f() %}[{{ y }}{{ loop.index if loop is defined }}]{% endmacro %}{% for y in [1, 2] %}{{ f() }}{% endfor %}",
    "{% set y = 1 %}{% macro f() %}{{ y }}{% set y = 2 %}{{ y }}{% endmacro %}{{ f() }}{{ y }}{{ f() }}",
    "{% macro f(a) %}<{{ caller() }}{{ a }}>{% endmacro %}{% call f(1) %}in{% endcall %}",
    "{% macro f(a) %}{{ a }}{{ varargs | join(',') }}{{ kwargs }}{% endmacro %}{{ f(1, 2, b=3) }}",
    "{% macro f(a, b) %}{{ a }}{{ b }}{% endmacro %}{% for y in [[1, 2]] %}{{ f(*y) }}{{ f(**{'a': y[0], 'b': y}) }}{% endfor %}",
    "{% macro f(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
    "{% macro f(m) %}{% for k in m %}{{ k }}{% if not loop.last %},{% endif %}{% endfor %}{% endmacro %}{{ f(o) | trim }}!",
    "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ loop.index }}{{ a }}{{ b }}{% endfor %}{{ loop.index }}{% endfor %}",
    "{% for a in [[1, 2], [3, 4]] %}{% for b in a %}{% if b == 3 %}{% break %}{% endif %}{{ b }}{% endfor %};{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}-{{ b }};{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}",
    "{% set a, b = [1, 2] %}{{ a }}{{ b }}",
    "{% set ns = namespace(a='') %}{% for i in [1, 2] %}{% set ns.a = ns.a ~ i %}{% endfor %}{{ ns.a }}{{ ns.b }}",
    "{% if messages[0].tool_calls %}t{% elif messages[0]['tool_calls'] is defined %}d{% else %}n{% endif %}",
    "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content | trim }}{% else %}no{% endfor %}",
    "{% for m in messages | selectattr('role', 'equalto', 'user') %}{{ m.content | length }},{% endfor %}",
    "{% for m in messages[1:] | reverse %}{{ m.role }},{% endfor %}{% for m in messages | reverse %}{{ m.role }},{% endfor %}",
    "{{ messages | map(attribute='content') | map('trim') | join('|') }}",
    "{{ messages[-1]['content'] }}{{ messages[-1].content[-1] }}{{ messages[-5] }}",
    "{{ (messages | last).role }}{{ (messages | first)['role'] }}{{ messages | length > 3 }}",
    "{{ dict(a=1) }}",
    "{{ x.startswith('  H') }}{{ x.endswith('\n') }}{{ x.startswith(('a', ' ')) }}{{ x.find('w') }}",
    "{{ o.get('f') }}{{ o.get('zz') }}{{ o.get('zz', 'd') }}{{ o.keys() | join(',') }}{{ o.values() | list | length }}",
    "{% set y = x.split() %}{{ y[0] }}{{ y[-1] }}{{ y | length }}{{ y[1:] | join(' ') }}",
    "{{ '' is defined }}{{ '' is none }}{{ not '' }}{{ '' or 'e' }}{{ 0 or 'z' }}{{ [] or 'l' }}",
    "{{ 3 > 2 > 1 }}{{ 1 < 2 and 2 < 3 }}{{ 'a' < 'b' }}{{ not 1 == 2 }}{{ -1 }}{{ - 1 + 2 * 3 }}{{ (1 + 2) * 3 }}{{ 2 ** -1 }}",
    "{{ 'a' if x and not u else 'b' }}{{ ('a' if u) is defined }}{{ 'x' ~ ('a' if u) ~ 'y' }}",
    "{% set y = namespace(items=[]) %}{% set y.items = y.items + [1] %}{{ y.items }}",
    "{{ raise_exception('no') }}",
    "{{ x | center(40) }}",
    "{{ '%s' % x }}",
]

GIVEN = {
    "messages": SAID,
    "add_generation_prompt": True,
    "bos_token": "<s>",
    "x": SAID[1]["content"],
    "o": {"f": 1.5, "list": [1, "two", 2.5], "none": None, "yes": True, "s": "it's \"é\"\n"},
}


def rendered(template):
    try:
        return environment.from_string(template).render(**GIVEN)
    except Exception:
        return None


def pieces(line):
    """Cuts at the bars between expressions, not at those of filters: an expression is as long as it parses longer."""
    parts = line.split(" | ")
    while parts:
        for count in range(1, len(parts) + 1):
            text = " | ".join(parts[:count])
            rest = parts[count] if count < len(parts) else None
            # A filter's name begins the next part where this one goes on.
            if rest is None or rest.split("(")[0].split(" ")[0] not in FILTERS:
                yield text
                parts = parts[count:]
                break


FILTERS = set(environment.filters)
expressions = ["{{ " + text + " }}" for line in EXPRESSIONS.split("\n") for text in pieces(line)]
cases = [{"template": t, "text": rendered(t)} for t in TEMPLATES + STATEMENTS + expressions]
about = f"Jinja {jinja2.__version__} with transformers' settings: python3 test/golden/templates.py"
lines = ",\n".join("    " + json.dumps(case, ensure_ascii=True) for case in cases)
given = json.dumps(GIVEN, ensure_ascii=True)
path = pathlib.Path(__file__).with_name("templates.json")
path.write_text(f'{{\n  "about": {json.dumps(about)},\n  "given": {given},\n  "cases": [\n{lines}\n  ]\n}}\n')
