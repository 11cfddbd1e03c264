import pytest
from hypothesis import given
from hypothesis import strategies as st

from imageherd.backbones import load_backbone
from imageherd.backbones.spec import OUTPUTS, RUNTIMES, Spec, parse_spec
from imageherd.errors import ImageherdError

models = st.text(min_size=1).filter(lambda text: ",output=" not in text and ",runtime=" not in text)
outputs = st.none() | st.lists(st.sampled_from(OUTPUTS), min_size=1, unique=True).map("+".join)


@given(models, outputs, st.sampled_from(RUNTIMES))
def test_a_name_says_all_of_a_spec(model, output, runtime):
    spec = Spec(model, output, runtime)
    assert parse_spec(spec.name) == spec
    assert parse_spec(model, output=output, runtime=runtime) == spec
    assert parse_spec(spec.name, output=output) == spec


@pytest.mark.parametrize(
    ("name", "said", "says"),
    [
        ("a", {"output": "clss"}, "'clss' is not known; choose cls, pooled, mean-patch"),
        ("a,output=cls+cls", {}, "names a part twice"),
        ("a,output=", {}, "'' is not known"),
        ("a,runtime=tpu", {}, "'tpu' is not known; choose torch, onnx, onnx-int8"),
        ("a,output=cls", {"output": "pooled"}, "says output=cls, but output pooled was asked for"),
        ("a,runtime=onnx,runtime=torch", {}, "says runtime=onnx, but runtime torch"),
    ],
)
def test_what_cannot_be_meant_is_refused(name, said, says):
    with pytest.raises(ImageherdError, match=says):
        parse_spec(name, **said)


def test_a_comma_in_a_path_is_a_comma():
    assert parse_spec("models/a,b=c") == Spec("models/a,b=c")
    assert parse_spec(",output=cls") == Spec(",output=cls")


@pytest.mark.parametrize("said", [{"output": "pooled"}, {"runtime": "onnx-int8"}])
def test_an_onnx_file_has_one_output_and_runtime(said):
    with pytest.raises(ImageherdError, match="one output"):
        load_backbone("efficientnet-lite0", **said)
