"""Arithmetic of attention in a module, much of which is no plain softmax: functions of module, q, k and v."""

import torch
import torch.nn.functional as F

TOKENS, HEADS = 16, 2


def plain(m, q, k, v):
    return (q @ k.mT + m.bias).softmax(-1) @ v


BODIES = {}


def body(function):
    BODIES[function.__name__] = function
    return function


# Arithmetic of the field that is no plain softmax.


@body
def stable_softmax(m, q, k, v):
    a = q @ k.mT
    return (a - a.amax(-1, keepdim=True)).softmax(-1) @ v


@body
def softmax_over_queries(m, q, k, v):
    return (q @ k.mT).softmax(-2) @ v


@body
def softmax_over_heads(m, q, k, v):
    return torch.softmax(q @ k.mT, 1) @ v


@body
def scaled_weights(m, q, k, v):
    return ((q @ k.mT).softmax(-1) * 0.5) @ v


@body
def gated_weights(m, q, k, v):
    return (m.gate.sigmoid() * (q @ k.mT).softmax(-1) + 0.1) @ v


@body
def renormalised_weights(m, q, k, v):
    w = (q @ k.mT + m.bias).softmax(-1)
    w = w - w.mean(-1, keepdim=True)
    return w @ v


@body
def two_softmaxes_of_a_product(m, q, k, v):
    a = q @ k.mT
    return a.softmax(-1) @ v + (a + m.bias).softmax(-1) @ v


@body
def product_used_again(m, q, k, v):
    a = q @ k.mT
    b = a * 2
    return a.softmax(-1) @ v + b.softmax(-1) @ v + (b + m.bias).relu() @ v


@body
def weights_used_twice(m, q, k, v):
    w = (q @ k.mT).softmax(-1)
    return w @ (w @ v)


@body
def no_softmax(m, q, k, v):
    return (q @ k.mT + 1) @ v


@body
def sink(m, q, k, v):
    a = torch.cat([q @ k.mT, m.gate.expand(len(q), -1, TOKENS, -1)], -1)
    return a.softmax(-1)[..., :-1] @ v


@body
def values_of_other_channels(m, q, k, v):
    return ((q @ k.mT).softmax(-1) @ torch.cat([v, v.square()], -1)).sum(-1)


@body
def products_as_queries_and_values(m, q, k, v):
    square = m.gate * torch.ones(len(q), HEADS, 4, 4)
    return (torch.matmul(q, square) @ k.mT).softmax(-1) @ torch.matmul(v, square)


@body
def bias_by_key(m, q, k, v):
    return (q @ k.mT + m.bias[0, 0]).softmax(-1) @ v


@body
def bias_far_below(m, q, k, v):
    return (q @ k.mT + (m.bias - 500)).softmax(-1) @ v


@body
def bias_with_far_rows(m, q, k, v):
    far = torch.zeros(TOKENS, 1)
    far[3] = -80
    return (q @ k.mT + m.bias.clamp_min(0) + far).softmax(-1) @ v


@body
def queries_that_see_nothing(m, q, k, v):
    hidden = torch.zeros(TOKENS, TOKENS)
    hidden[2] = -1e9
    hidden[3, 4:] = -1e9
    return (q @ k.mT + hidden).softmax(-1) @ v


@body
def masks_of_wide_logits(m, q, k, v):
    """Hidden keys whose products are far larger than those of all keys that are seen."""
    hidden = torch.zeros(TOKENS, TOKENS)
    hidden[:, ::2] = -1e9
    return (100 * (q @ k.mT) + hidden).softmax(-1) @ v


@body
def filled_with_moderate_numbers(m, q, k, v):
    a = (30 * q @ k.mT).masked_fill(torch.eye(TOKENS).bool(), -40.0)
    return a.softmax(-1) @ v, a


@body
def scale_by_query(m, q, k, v):
    return (q @ k.mT * torch.linspace(0, 3, TOKENS).unsqueeze(1) + m.bias).softmax(-1) @ v


@body
def scale_by_key(m, q, k, v):
    factor = torch.linspace(-1, 3, TOKENS)
    return (((q @ k.mT + m.bias) * factor + m.bias) * factor.view(1, 1, 1, -1).double()).softmax(-1).to(v.dtype) @ v


@body
def scale_by_key_after_a_number(m, q, k, v):
    a = (q @ k.mT + 2) * torch.linspace(-1, 3, TOKENS)
    return a.softmax(-1) @ v, a


@body
def scale_with_more_axes(m, q, k, v):
    a = (q @ k.mT).flatten(0, 1) * torch.arange(1.0, 4).view(3, 1, 1, 1)
    return (a.softmax(-1) @ v.flatten(0, 1)).sum(0)


@body
def terms_before_and_after_scales(m, q, k, v):
    a = (q @ k.mT + m.bias) * m.gate + 2.0
    return ((a - 1) / 3 + m.bias.flip(0)).softmax(-1) @ v, a


@body
def whole_numbers(m, q, k, v):
    return (3 * q @ k.mT).to(torch.int32).float().softmax(-1) @ v


# In place.


@body
def terms_in_place(m, q, k, v):
    a = q @ k.mT
    a += m.bias
    a.mul_(m.gate)
    a.masked_fill_(torch.ones(TOKENS, TOKENS).triu(1).bool(), -torch.inf)
    return a.softmax(-1) @ v


@body
def part_written(m, q, k, v):
    a = q @ k.mT
    a[:, :, :, :3] = 0
    return a.softmax(-1) @ v


@body
def view_written(m, q, k, v):
    a = q @ k.mT
    a.view(-1, TOKENS, TOKENS)[:, 2] = 1
    flat = a.flatten(0, 1)
    flat += 2 * m.bias[0]
    return a.softmax(-1) @ v


@body
def view_written_after_softmax(m, q, k, v):
    a = (q @ k.mT).clone()
    w = a.detach().softmax(-1)
    w.flatten(0, 1)[:, :, 0] = 0.5
    return w @ v


@body
def logits_written_after_softmax(m, q, k, v):
    a = (q @ k.mT).detach()
    seen = a.mean()
    w = a.softmax(-1)
    a.zero_()
    return w @ v, seen


@body
def queries_written_after_product(m, q, k, v):
    q, k = q.detach().clone(), k.detach().clone()
    a = q @ k.mT
    q.zero_()
    w = a.softmax(-1)
    k[:, :, 0] = 100
    return w @ v


@body
def term_written_after_sum(m, q, k, v):
    bias = m.bias.detach().clone()
    a = q @ k.mT + bias
    F.relu(bias, inplace=True)
    torch.mul(bias, 7, out=bias)
    return a.softmax(-1) @ v


@body
def values_written_after_product(m, q, k, v):
    copy, w = v.detach().clone(), (q @ k.mT).softmax(-1).detach()
    out = w @ copy
    copy.fill_(3.0)
    w.zero_()
    return out + v


@body
def data_written(m, q, k, v):
    a = (q @ k.mT).detach()
    a.data.mul_(2)
    a.data = a.data + 1
    w = a.softmax(-1)
    w.data = w.data.sqrt()
    return w @ v


@body
def copy_in_other_precision_written(m, q, k, v):
    a = (q @ k.mT).detach()
    b = a.double()
    b += m.bias.detach()
    return (b.softmax(-1).float() @ v) - (a.softmax(-1) @ v)


# Looked at.


@body
def looked_at_without_gradients(m, q, k, v):
    a = q @ k.mT
    with torch.no_grad():
        seen = a.max()
        a_seen = a.softmax(-1).amin()
    w = (a + m.bias).softmax(-1)
    with torch.no_grad():
        w_seen = w.sum(0).std()
    return w @ v, seen, a_seen, w_seen


@body
def returned(m, q, k, v):
    a = q @ k.mT + 3
    w = a.softmax(-1)
    return w @ v, a, w, w.mT


@body
def returned_product_of_what_is_written_later(m, q, k, v):
    w = (q @ k.mT).softmax(-1).detach() + 0
    return w @ v, w


@body
def asked(m, q, k, v):
    a = q @ k.mT
    w = a.softmax(-1)
    assert (a.ndim, a.shape, len(w), w.numel(), w.dtype) == (4, w.shape, len(q), w.nelement(), q.dtype)
    assert a.requires_grad == w.requires_grad == q.requires_grad
    assert a.stride() == w.stride()
    return w @ v, w.mT.sum(), torch.tensor(w.tolist())


@body
def by_names(m, q, k, v):
    a = torch.matmul(input=q, other=k.transpose(dim0=-2, dim1=-1))
    a = torch.add(input=a, other=m.bias, alpha=2)
    a = torch.where(condition=torch.ones(TOKENS, TOKENS).tril().bool(), input=a, other=torch.tensor(-1e9))
    w = F.dropout(input=torch.softmax(input=a, dim=-1), p=0.5, training=False)
    return torch.matmul(input=w, other=v) + torch.einsum("bhij,bhjd->bhid", w.transpose(dim0=2, dim1=3), v)


@body
def functions_of_einsum(m, q, k, v):
    w = torch.einsum("bhid,bhjd->bhji", k, q).softmax(-1)
    return torch.einsum("bhjd,bhij->bihd", v, w).transpose(1, 2) + torch.einsum("bhij,bhid->bhjd", w, v)


@body
def gradient_of_logits(m, q, k, v):
    a = q @ k.mT
    if not a.requires_grad:
        return a.softmax(-1) @ v, torch.zeros(())
    a.retain_grad()
    w = a.softmax(-1)
    halved = []
    w.register_hook(lambda gradient: halved.append(1) or gradient / 2)
    out = w @ v
    return out, torch.autograd.grad(out.square().sum(), a, retain_graph=True)[0]


@body
def other_precision_inside(m, q, k, v):
    with torch.autocast("cpu", enabled=False):
        a = q.float() @ k.float().mT
    return (a + m.bias).softmax(-1).to(v.dtype) @ v


@body
def precision_of_softmax(m, q, k, v):
    w = F.softmax(q @ k.mT, dim=-1, dtype=torch.float64)
    return (w @ v.double()).to(q.dtype), w
