"""Apply one-line faults, one at a time, and report the test that catches each: `make mutants`.

Exits with status 1 if a fault survives. Each fault is a file, the text there, the faulty text, and the tests
that should fail. The faults are applied in a copy of the tree. `python benchmarks/mutants.py 1/3` applies the
first of three parts of the list, so that several can run side by side.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGITS, HINGE = "rpe/grouping/logits.py", "rpe/loss/hinge.py"
KERNEL, SHIFT, MODES = "rpe/grouping/kernel.py", "rpe/grouping/mean_shift.py", "rpe/grouping/modes.py"
LOSS, INSTANCE_LOSS, SAMPLED_LOSS = (f"rpe/loss/{name}.py" for name in ("pairwise", "instance", "sampled"))
GREEDY, WEIGHTED, PARTS = (f"rpe/grouping/{name}.py" for name in ("greedy", "weighted_points", "parts"))
BOUNDARY_LOSS, DETECTION = "rpe/loss/boundary.py", "rpe/segment/boundary_map.py"
RECALL, INSTANCES = "rpe/metric/average_recall.py", "rpe/metric/instance_ap.py"
SEMANTIC, CLASS_AP, CLASSIFIED, SEMANTIC_LOSS = (
    "rpe/metric/semantic.py",
    "rpe/metric/class_ap.py",
    "rpe/segment/classes.py",
    "rpe/loss/semantic.py",
)
FAULTS = [
    (
        "rpe/sphere.py",
        "return (one - other).square().sum(-1) / 2",
        "return (one + other).square().sum(-1) / 2",
        "tests/test_sphere.py",
    ),
    (
        "rpe/sphere.py",
        "check_bandwidth((1 - check_margin(margin)) / 3)",
        "check_bandwidth((1 - check_margin(margin)) / 2)",
        "tests/test_sphere.py",
    ),
    (
        "rpe/sphere.py",
        "return 1 / check_bandwidth(bandwidth) ** 2",
        "return 1 / check_bandwidth(bandwidth)",
        "tests/test_sphere.py",
    ),
    (
        "rpe/sphere.py",
        "return 2 * check_margin(margin) - 1",
        "return check_margin(margin) - 1",
        "tests/test_sphere.py",
    ),
    ("rpe/sphere.py", "wrong = ~(error <= tolerance)", "wrong = error > tolerance", "tests/test_sphere.py"),
    ("rpe/structures.py", "row, column = (2 *", "column, row = (2 *", "tests/test_structures.py"),
    ("rpe/structures.py", "dtype=torch.float32) + 0.5", "dtype=torch.float32)", "tests/test_structures.py"),
    (
        "rpe/pairs.py",
        "for columns in parts[index:]",
        "for columns in parts[index + 1 :]",
        "tests/test_pairs.py",
    ),
    (
        "rpe/pairs.py",
        "addmm_(values[rows].t(), block)",
        "addmm_(values[rows].t(), block.t())",
        "tests/test_pairs.py",
    ),
    ("rpe/pairs.py", "    if rows != columns:\n", "    if rows == columns:\n", "tests/test_pairs.py"),
    (
        "rpe/structures.py",
        "2 * length - 1 - index",
        "2 * length - 2 - index",
        "tests/test_structures.py",
    ),
    (
        "rpe/network/backbone/norm.py",
        "square - (mean - centre",
        "square + (mean - centre",
        "tests/network/backbone/test_norm.py",
    ),
    (
        "rpe/network/backbone/norm.py",
        "- side // 2).clamp(0,",
        "- side // 2).clamp(-side,",
        "tests/network/backbone/test_norm.py",
    ),
    (
        "rpe/segment/segmenter.py",
        "torch.rot90(each.values, -turns,",
        "torch.rot90(each.values, turns,",
        "tests/segment/test_segmenter.py",
    ),
    (LOGITS, "BITS = math.log2(math.e)", "BITS = 1.44", "tests/grouping/test_kernel.py"),
    (
        KERNEL,
        "values = mass[:, None] * torch.cat([points",
        "values = torch.cat([points",
        "tests/grouping/test_kernel.py",
    ),
    (
        KERNEL,
        "pull_left = torch.cat([heavy * points, -heavy, pull, -offset], 1)",
        "pull_left = torch.cat([heavy * points, heavy, pull, -offset], 1)",
        "tests/grouping",
    ),
    (KERNEL, "concentration * swayed[:dim].t()", "swayed[:dim].t()", "tests/grouping"),
    (KERNEL, "return to_points, (along / 2)", "return to_points, (along)", "tests/grouping"),
    (KERNEL, "- swayed[dim].double().sum()", "", "tests/grouping/test_mean_shift.py"),
    (
        KERNEL,
        "weight - positions.square().sum(-1, keepdim=True) / 2",
        "weight - positions.square().sum(-1, keepdim=True)",
        "tests/grouping/test_kernel.py",
    ),
    (
        SHIFT,
        "(1 - step) * points + step * mean",
        "step * points + (1 - step) * mean",
        "tests/grouping/test_mean_shift.py",
    ),
    (SHIFT, "torch.where(present[..., None], here, points)", "here", "tests/grouping/test_mean_shift.py"),
    (SHIFT, "else mass * present", "else mass", "tests/grouping/test_mean_shift.py"),
    (
        SHIFT,
        "for _ in range(iterations if",
        "for _ in range(iterations + 1 if",
        "tests/grouping/test_mean_shift.py",
    ),
    (
        SHIFT,
        "torch.exp(-2 * ReturningClamp",
        "torch.exp(-ReturningClamp",
        "tests/grouping/test_mean_shift.py",
    ),
    (
        GREEDY,
        "torch.sort(mass, descending=True, stable=True)",
        "torch.sort(mass, descending=False, stable=True)",
        "tests/grouping/test_modes.py",
    ),
    (
        GREEDY,
        "torch.tril(near, diagonal=-1)",
        "torch.triu(near, diagonal=1)",
        "tests/grouping/test_greedy.py",
    ),
    (GREEDY, "torch.arange(width, 0, -1", "torch.arange(1, width + 1", "tests/grouping/test_greedy.py"),
    (GREEDY, ".ge_(1 - tolerance - error)", ".ge_(1 - tolerance + error)", "tests/grouping/test_greedy.py"),
    (GREEDY, "    if len(doubtful):", "    if False:", "tests/grouping/test_greedy.py"),
    (GREEDY, "SLACK = 1e-12", "SLACK = -1e-12", "tests/grouping/test_greedy.py"),
    (
        GREEDY,
        "spared < worthwhile * len(heads)",
        "spared > worthwhile * len(heads)",
        "tests/grouping/test_greedy.py",
    ),
    (WEIGHTED, "member[weighted.owner]", "member", "tests/grouping/test_weighted_points.py"),
    (
        WEIGHTED,
        "normalise(sum_by_leader(weighted.points * weighted.mass[:, None]))",
        "normalise(sum_by_leader(weighted.points))",
        "tests/grouping/test_weighted_points.py",
    ),
    (
        PARTS,
        "np.lexsort((first_pixel, -total))",
        "np.lexsort((first_pixel, total))",
        "tests/grouping/test_parts.py",
    ),
    (PARTS, "np.arange(len(key)) + 1", "np.arange(len(key)) + 2", "tests/grouping/test_parts.py"),
    (
        MODES,
        "shift_points(sample, concentration) if blurring",
        "shift_points(sample, concentration) if True",
        "tests/grouping/test_modes.py",
    ),
    (MODES, "moves[-1] <= move_tolerance", "moves[-1] < 0", "tests/grouping/test_modes.py"),
    (
        LOSS,
        "groups.counts / 2).to",
        "groups.counts).to",
        "tests/loss/test_pairwise.py",
    ),
    (HINGE, "- threshold * weight", "+ threshold * weight", "tests/loss/test_pairwise.py"),
    (
        HINGE,
        "active.mul_(labels[rows, None] != labels[columns])",
        "active.mul_(labels[rows, None] == labels[columns])",
        "tests/loss/test_pairwise.py",
    ),
    (LOSS, "torch.where(void, VOID, groups)", "groups", "tests/loss/test_pairwise.py"),
    (
        LOSS,
        "losses = losses + negative_weight * hinge",
        "losses = losses - negative_weight * hinge",
        "tests/loss/test_pairwise.py",
    ),
    (HINGE, "/ (8 if squared else 2)", "/ (4 if squared else 2)", "tests/loss/test_pairwise.py"),
    (HINGE, "weighted_points / (2 if squared else 1)", "weighted_points", "tests/loss/test_pairwise.py"),
    (LOSS, "2 * length.sum().square()", "length.sum().square()", "tests/loss/test_pairwise.py"),
    (LOSS, "part.start].square()", "part.start]", "tests/loss/test_pairwise.py"),
    (
        SAMPLED_LOSS,
        "self.negative_range, self.squared)",
        "self.negative_range, False)",
        "tests/loss/test_instance.py",
    ),
    (
        SAMPLED_LOSS,
        "waiting = waiting / pair_weights",
        "waiting = waiting * pair_weights",
        "tests/loss/test_sampled.py",
    ),
    (
        INSTANCE_LOSS,
        "known = labels != VOID",
        "known = labels == labels",
        "tests/loss/test_instance.py",
    ),
    (
        INSTANCE_LOSS,
        "(labels > BACKGROUND)",
        "(labels >= BACKGROUND)",
        "tests/loss/test_instance.py",
    ),
    (
        "rpe/pairs.py",
        "other >= index and near[index, other]",
        "other > index and near[index, other]",
        "tests/test_pairs.py",
    ),
    (
        "rpe/segment/selection.py",
        "if 2 * np.count_nonzero(free) >= area",
        "if np.count_nonzero(free) >= area",
        "tests/segment",
    ),
    (
        "rpe/segment/groups.py",
        "label, cosine = best.indices + 1, best.values",
        "label, cosine = best.indices, best.values",
        "tests/segment",
    ),
    ("rpe/segment/proposer.py", "foreground = inside & (", "foreground = (", "tests/segment"),
    (
        "rpe/segment/proposer.py",
        "local = setting.split or self.spatial_bandwidth is not None",
        "local = False",
        "tests/segment",
    ),
    ("rpe/segment/features.py", "& groups.inside.flatten()[outside]", "", "tests/segment"),
    ("rpe/segment/features.py", "known = truth != VOID", "known = truth == truth", "tests/segment"),
    ("rpe/segment/features.py", "area / (height * width)", "area / (height + width)", "tests/segment"),
    ("rpe/segment/ranker.py", "torch.cat(features, 1).detach()", "torch.cat(features, 1)", "tests/segment"),
    (
        "rpe/network/embedding.py",
        "cell_centres(feature) + self.DISPLACEMENT",
        "cell_centres(feature) - self.DISPLACEMENT",
        "tests/network/test_embedding.py",
    ),
    ("rpe/pairs.py", "<= max_distance**2", "<= max_distance", "tests/test_pairs.py"),
    (
        "rpe/segment/proposer.py",
        "np.argsort(-np.array(scores)",
        "np.argsort(np.array(scores)",
        "tests/segment",
    ),
    (
        RECALL,
        "results), -scores, images))",
        "results), scores, images))",
        "tests/metric/test_average_recall.py",
    ),
    (
        RECALL,
        "np.lexsort((read_categories(truth, results), ",
        "np.lexsort((",
        "tests/metric/test_average_recall.py",
    ),
    (
        "rpe/segment/proposer.py",
        "yield split_masks(*found) if setting.split else found",
        "yield found",
        "tests/segment",
    ),
    (
        "rpe/segment/proposer.py",
        "((False, True) if split_components else (False,))",
        "(split_components,)",
        "tests/segment",
    ),
    (
        "rpe/metric/void.py",
        "encode_mask(~void)",
        "encode_mask(void)",
        "tests/metric/test_void.py",
    ),
    (
        "rpe/segment/ranker.py",
        "generator=torch.Generator().manual_seed(seed)",
        "generator=torch.Generator().manual_seed(0)",
        "tests/segment",
    ),
    (
        RECALL,
        "(areas >= least) & (areas <= most)",
        "(areas > least) & (areas <= most)",
        "tests/metric/test_average_recall.py",
    ),
    (
        RECALL,
        'key=lambda annotation: annotation["category_id"]',
        'key=lambda annotation: annotation["id"]',
        "tests/metric/test_average_recall.py",
    ),
    (RECALL, 'if not annotation.get("iscrowd", 0)]', "]", "tests/metric/test_average_recall.py"),
    (
        RECALL,
        "VOC_THRESHOLDS = np.append(COCO_THRESHOLDS, 1.0)",
        "VOC_THRESHOLDS = np.linspace(0.5, 1.0, 11)",
        "tests/metric/test_average_recall.py",
    ),
    (
        "rpe/metric/matching.py",
        "shared[pairs.objects[contested]] = True",
        "pass",
        "tests/metric/test_matching.py",
    ),
    ("rpe/metric/curve.py", 'and split != "train"', "", "tests/metric/test_curve.py"),
    (
        "rpe/metric/matching.py",
        "(pairs.objects[order], pairs.ious[order]",
        "(-pairs.objects[order], pairs.ious[order]",
        "tests/metric/test_matching.py",
    ),
    ("rpe/metric/matching.py", "sure = ~contested & ", "sure = ", "tests/metric/test_matching.py"),
    (
        "rpe/rle.py",
        "digit if digit < MORE // 2 else digit - MORE",
        "digit",
        "tests/test_rle.py",
    ),
    (
        "rpe/rle.py",
        "outside[mine[1:][runs % 2 == 0] - 1] = 0",
        "",
        "tests/test_rle.py",
    ),
    ("rpe/rle.py", "both[mine[:-1]] += leading", "", "tests/test_rle.py"),
    (
        "rpe/metric/results.py",
        "masks.pixels != wanted",
        "masks.pixels > wanted",
        "tests/metric/test_results.py",
    ),
    ("rpe/metric/reference.py", '| {"id": number}', "", "tests/metric/test_reference.py"),
    ("rpe/metric/reference.py", "useCats = int(by_class)", "useCats = 1", "tests/metric"),
    ("rpe/metric/reference.py", "useCats = int(by_class)", "useCats = 0", "tests/metric/test_class_ap.py"),
    (INSTANCES, "self.tp + self.fp + self.fn)", "self.tp + self.fn)", "tests/metric/test_instance_ap.py"),
    (
        INSTANCES,
        "overlaps.ious >= threshold",
        "overlaps.ious > threshold",
        "tests/metric/test_instance_ap.py",
    ),
    (INSTANCES, "known = truth != VOID", "known = truth == truth", "tests/metric/test_instance_ap.py"),
    (INSTANCES, "TOUCHING_GAP = 2", "TOUCHING_GAP = 3", "tests/metric/test_instance_ap.py"),
    (
        INSTANCES,
        "most[overlaps.predictions[order]] = overlaps.truths[order]",
        "most[overlaps.predictions] = 0",
        "tests/metric/test_instance_ap.py",
    ),
    (INSTANCES, "np.nanmean(values)", "np.nan_to_num(values).mean()", "tests/metric/test_instance_ap.py"),
    ("rpe/metric/curve.py", "np.where(table > -1, table, np.nan)", "table", "tests/metric/test_curve.py"),
    (
        "rpe/data/digits.py",
        'seed = self.seed if self.split == "train" else SCENE_SEED',
        "seed = self.seed",
        "tests/data/test_digits.py",
    ),
    (
        "rpe/data/coco.py",
        "-mask_area(codes[annotation])",
        "mask_area(codes[annotation])",
        "tests/data/test_coco.py",
    ),
    (
        "rpe/data/coco.py",
        "VOID if annotations.crowds[annotation] else number",
        "BACKGROUND if annotations.crowds[annotation] else number",
        "tests/data/test_coco.py",
    ),
    ("rpe/data/coco.py", "corner, side, VOID)", "corner, side, 0)", "tests/data/test_coco.py"),
    (
        "rpe/data/annotation.py",
        'if all(annotation["iscrowd"] for annotation in truth["annotations"]):',
        'if not truth["annotations"]:',
        "tests/data/test_coco.py",
    ),
    (
        "rpe/data/annotation.py",
        'crowds=np.array([bool(annotation.get("iscrowd", 0))',
        "crowds=np.array([False",
        "tests/data/test_annotation.py",
    ),
    ("rpe/data/digits.py", "if scenes < 1:", "if scenes < 0:", "tests/data/test_module.py"),
    (
        "rpe/task/schedule.py",
        "if not 0 <= warmup < 1:",
        "if not 0 <= warmup <= 1:",
        "tests/task/test_schedule.py",
    ),
    (
        "rpe/callbacks/checkpoint.py",
        '"dirpath": self.dirpath',
        '"place": self.dirpath',
        "tests/callbacks/test_checkpoint.py",
    ),
    (
        "rpe/callbacks/wandb_run.py",
        "id=given or known,",
        "id=given,",
        "tests/callbacks/test_wandb_run.py",
    ),
    (
        "rpe/run/validation.py",
        "and not isinstance(value, bool) and math.isfinite",
        "and math.isfinite",
        "tests/run/test_validation.py",
    ),
    ("rpe/run_files.py", "changed_at_resume(folder) | changes", "changes", "tests/test_run_files.py"),
    ("rpe/run/building.py", 'or str(target.__module__).startswith("rpe.")', "", "tests/run/test_building.py"),
    ("rpe/run/cli.py", "if multirun or line is None:", "if line is None:", "tests/run/test_sweep_record.py"),
    ("rpe/task/base.py", "steps = -(-batches //", "steps = (batches //", "tests/task/test_base.py"),
    (
        "rpe/task/embedding_metrics.py",
        'enumerate(grouping(points)):\n            metrics[f"margin',
        'enumerate([points]):\n            metrics[f"margin',
        "tests/task",
    ),
    ("rpe/data/module.py", "+ self.epoch * self.length", "", "tests/data/test_module.py"),
    (
        "rpe/network/backbone/decoder.py",
        "length + -length % multiple",
        "length + multiple",
        "tests/network/backbone/test_decoder.py",
    ),
    (
        "rpe/network/backbone/encoder.py",
        "stage.permute(0, 3, 1, 2)",
        "stage.permute(0, 3, 2, 1)",
        "tests/network/backbone/test_encoder.py",
    ),
    (
        "rpe/network/backbone/encoder.py",
        "permute(0, 3, 1, 4, 2, 5)",
        "permute(0, 3, 2, 4, 1, 5)",
        "tests/network/backbone/test_encoder.py",
    ),
    (
        "rpe/network/backbone/encoder.py",
        "permute(0, 2, 4, 1, 3, 5)",
        "permute(0, 4, 2, 1, 3, 5)",
        "tests/network/backbone/test_encoder.py",
    ),
    (
        "rpe/network/backbone/encoder.py",
        "self.train(training)",
        "pass",
        "tests/network/backbone/test_timm_pyramid.py",
    ),
    (
        "rpe/network/backbone/timm_pyramid.py",
        "/ self.std",
        "* self.std",
        "tests/network/backbone/test_timm_pyramid.py",
    ),
    (
        "rpe/network/backbone/timm_pyramid.py",
        "maps[1 + self.skipped :]",
        "maps[1:]",
        "tests/network/backbone/test_timm_pyramid.py",
    ),
    ("rpe/network/embedding.py", "* feature.stride", "", "tests/network/test_embedding.py"),
    ("rpe/data/thinning.py", "for half in (0, 4)", "for half in (4, 0)", "tests/data/test_thinning.py"),
    (
        "rpe/data/thinning.py",
        "words = width // WORD + 1",
        "words = (width - 1) // WORD + 1",
        "tests/data/test_thinning.py",
    ),
    (
        "rpe/data/thinning.py",
        "removed &= ~(full & pairs[0] & pairs[1])",
        "removed &= ~full",
        "tests/data/test_thinning.py",
    ),
    ("rpe/data/thinning.py", " | (here != wide[1:, 1:])", "", "tests/data/test_thinning.py"),
    (
        "rpe/metric/boundary/matching.py",
        "random(pixels) / pixels",
        "random(pixels) * pixels",
        "tests/metric/boundary/test_matching.py",
    ),
    (
        "rpe/metric/boundary/matching.py",
        "near = distance <= max_distance",
        "near = distance < max_distance",
        "tests/metric/boundary/test_matching.py",
    ),
    (
        "rpe/metric/boundary/matching.py",
        "np.rint(COST_OF_PIXEL * distance[near])",
        "np.ones(near.sum())",
        "tests/metric/boundary/test_matching.py",
    ),
    (
        "rpe/metric/boundary/matching.py",
        "COST_OF_PIXEL * OUTLIER * max_distance",
        "COST_OF_PIXEL",
        "tests/metric/boundary/test_matching.py",
    ),
    (
        "rpe/metric/boundary/annotators.py",
        "np.add.at(keys, self.row_component, truth_keys[self.rows])",
        "pass",
        "tests/metric/boundary",
    ),
    (
        "rpe/metric/boundary/annotators.py",
        "np.add.at(keys, self.column_component, predicted_keys[self.columns % len(predicted_keys)])",
        "pass",
        "tests/metric/boundary",
    ),
    (
        "rpe/metric/boundary/annotators.py",
        "np.where(choice < width, choice + column_start[block], -1)",
        "np.where(choice < width, choice, -1)",
        "tests/metric/boundary",
    ),
    (
        "rpe/metric/boundary/annotators.py",
        "self.near.owners[row] * predicted.size + pixel",
        "pixel",
        "tests/metric/boundary",
    ),
    (
        "rpe/metric/boundary/curve.py",
        "prediction >= threshold for",
        "prediction > threshold for",
        "tests/metric/boundary",
    ),
    ("rpe/metric/boundary/curve.py", "thinned = thin(mask)", "thinned = mask", "tests/metric/boundary"),
    ("rpe/metric/boundary/curve.py", ".argmax(1)\n", ".argmin(1)\n", "tests/metric/boundary"),
    ("rpe/metric/boundary/curve.py", "left=0, right=0", "right=0", "tests/metric/boundary"),
    (
        "rpe/metric/boundary/curve.py",
        "share = np.linspace(0, 1, BETWEEN)",
        "share = np.ones(1)",
        "tests/metric/boundary",
    ),
    ("rpe/metric/boundary/score.py", 'if entry.get("key") == key else None', "", "tests/metric/boundary"),
    (
        "rpe/metric/boundary/score.py",
        "signal.signal(signal.SIGINT, signal.SIG_IGN)",
        "signal.signal(signal.SIGINT, signal.SIG_DFL)",
        "tests/metric/boundary",
    ),
    (
        "rpe/metric/boundary/reading.py",
        '"ucm2", file), file)[2::2, 2::2]',
        '"ucm2", file), file)[1::2, 1::2]',
        "tests/metric/boundary",
    ),
    (
        BOUNDARY_LOSS,
        "((1, boundary_share), (0, 1 - boundary_share))",
        "((0, boundary_share), (1, 1 - boundary_share))",
        "tests/loss/test_boundary.py",
    ),
    (BOUNDARY_LOSS, "(flat == kind)", "(flat != 1 - kind)", "tests/loss/test_boundary.py"),
    (
        BOUNDARY_LOSS,
        "torch.stack([stage[name] for stage in by_stage]).mean()",
        "by_stage[0][name]",
        "tests/loss/test_boundary.py",
    ),
    (
        BOUNDARY_LOSS,
        "(chance * annotators)",
        "(chance)",
        "tests/loss/test_boundary.py",
    ),
    (
        DETECTION,
        "0.5 * np.arctan2(2 * mixed",
        "0.5 * np.arctan2(-2 * mixed",
        "tests/segment/test_boundary_map.py",
    ),
    (DETECTION, "for side in (-1, 1)", "for side in (1,)", "tests/segment/test_boundary_map.py"),
    (
        DETECTION,
        "np.cos(across), np.sin(across)",
        "np.sin(across), np.cos(across)",
        "tests/segment/test_boundary_map.py",
    ),
    (
        DETECTION,
        "[size[0] / height, size[1] / width]",
        "[height / size[0], width / size[1]]",
        "tests/segment/test_boundary_map.py",
    ),
    (DETECTION, ".sigmoid() / len(self.scales)", ".sigmoid()", "tests/segment/test_boundary_map.py"),
    (
        "rpe/network/head.py",
        "[resize_map(stage.values,",
        "[resize_map(finest.values,",
        "tests/network/test_head.py",
    ),
    ("rpe/task/boundary.py", "image[:, :height, :width]", "image", "tests/task/test_boundary.py"),
    (
        "rpe/metric/boundary/score.py",
        "maps[name] / FULL_SCALE",
        "maps[name] * 2 / FULL_SCALE",
        "tests/metric/boundary/test_score.py",
    ),
    (
        "benchmarks/region_metrics.py",
        "2 * entropy(shared.ravel()) - entropy",
        "entropy(shared.ravel()) - entropy",
        "tests/test_region_metrics.py",
    ),
    ("benchmarks/region_metrics.py", "[1::2, 1::2]", "[2::2, 2::2]", "tests/test_region_metrics.py"),
    ("benchmarks/region_metrics.py", "covered.max(1).sum()", "covered.max()", "tests/test_region_metrics.py"),
    ("rpe/data/bsds.py", "votes >= needed, 1", "votes > needed, 1", "tests/data/test_bsds.py"),
    ("rpe/data/bsds.py", "np.where(votes > 0, VOID, 0)", "np.zeros_like(votes)", "tests/data/test_bsds.py"),
    ("rpe/data/bsds.py", "labels[segments[0] == VOID] = VOID", "pass", "tests/data/test_bsds.py"),
    ("rpe/data/bsds.py", "- int(segments.min())", "", "tests/data/test_bsds.py"),
    ("rpe/data/view.py", "-steps if self.flip else steps", "steps", "tests/data/test_view.py"),
    (
        "rpe/data/view.py",
        "thin(segment_changes(segments)) & inside",
        "segment_changes(segments) & inside",
        "tests/data/test_view.py",
    ),
    (
        "rpe/data/view.py",
        "self.centre[0] + cosine * down + sine * right",
        "self.centre[0] + cosine * down - sine * right",
        "tests/data/test_view.py",
    ),
    (
        "rpe/structures.py",
        "torch.where(self.labels == VOID, VOID, torch.stack(maps))",
        "torch.stack(maps)",
        "tests/task/test_classes.py",
    ),
    (
        "rpe/data/coco.py",
        "torch.from_numpy(categories[kept])",
        "torch.from_numpy(categories[: len(kept)])",
        "tests/data",
    ),
    ("rpe/data/coco.py", "[np.append(BACKGROUND, seen)]", "[: len(seen) + 1]", "tests/data/test_coco.py"),
    (
        "rpe/data/digits.py",
        "digit + 1 for digit in scene.classes",
        "digit for digit in scene.classes",
        "tests/data/test_digits.py",
    ),
    ("rpe/data/module.py", "return dict(sorted(", "return dict((", "tests/data/test_module.py"),
    (
        "rpe/network/head.py",
        "logsumexp(1, keepdim=True) - background",
        "logsumexp(1, keepdim=True)",
        "tests/network/test_head.py",
    ),
    (SEMANTIC_LOSS, "(classes != VOID).sum().clamp(min=1)", "classes.numel()", "tests/loss/test_semantic.py"),
    (SAMPLED_LOSS, "factor = self.weight", "factor = 1.0", "tests/loss/test_semantic.py"),
    (CLASSIFIED, "scores = proposals.scores * means", "scores = means", "tests/segment/test_classes.py"),
    (
        CLASSIFIED,
        "running[ends] - running[starts]",
        "running[ends] - running[starts] + 1e-3",
        "tests/segment/test_classes.py",
    ),
    (CLASSIFIED, "connectivity=2", "connectivity=1", "tests/segment/test_classes.py"),
    (
        SEMANTIC,
        "confusion.sum(0) + confusion.sum(1) - right",
        "confusion.sum(0) + confusion.sum(1)",
        "tests/metric/test_semantic.py",
    ),
    (SEMANTIC, "in painting_order(mine, size)", "in mine", "tests/metric/test_semantic.py"),
    (
        CLASS_AP,
        "if after is before or count_mask_pixels(after) or not count_mask_pixels(before)",
        "",
        "tests/metric/test_class_ap.py",
    ),
    (CLASS_AP, "MASKS_PER_CLASS = 100", "MASKS_PER_CLASS = 1", "tests/metric/test_class_ap.py"),
    (CLASS_AP, "np.abs(COCO_THRESHOLDS - threshold).argmin()", "0", "tests/metric/test_class_ap.py"),
    (
        "rpe/metric/class_map.py",
        "values.max() > classes",
        "values.max() > 254",
        "tests/metric/test_class_map.py",
    ),
    ("rpe/task/classes.py", "self.categories = known_names", "pass", "tests/task/test_classes.py"),
    ("rpe/task/classes.py", "self.confusion.reset()", "pass", "tests/task/test_classes.py"),
    (
        "rpe/loss/semantic.py",
        "(output.classes, batch.classes())",
        "(output.classes, batch.labels)",
        "tests/task/test_semantic.py",
    ),
    (
        "rpe/task/instance.py",
        "checkpoint[CLASSES] = self.class_evaluator.categories",
        "pass",
        "tests/task/test_semantic.py",
    ),
    (
        "rpe/task/semantic.py",
        "part.requires_grad_(False)",
        "part.requires_grad_(True)",
        "tests/task/test_semantic.py",
    ),
    ("rpe/run/evaluate.py", "task.check_dataset(dataset)", "pass", "tests/task/test_semantic.py"),
    (
        "rpe/run/sweep_record.py",
        "chosen = sorted(override",
        "chosen = list(override",
        "tests/run/test_sweep_record.py",
    ),
    (
        "rpe/run/lock.py",
        "return lock_descriptor(descriptor, blocking=False)",
        "return True",
        "tests/run/test_lock.py",
    ),
    (
        "rpe/sweep/job.py",
        "if is_finished(folder):\n            print",
        "if False:\n            print",
        "tests/sweep/test_job.py",
    ),
    (
        SAMPLED_LOSS,
        "upload(torch.empty(flat.shape).exponential_(generator=generator), labels.device)",
        "torch.empty(flat.shape).exponential_(generator=generator).to(labels.device)",
        "tests/test_devices.py",
    ),
    (
        SAMPLED_LOSS,
        "upload(torch.empty(flat.shape).exponential_(generator=generator), labels.device)",
        "torch.empty(flat.shape).exponential_(generator=generator)",
        "tests/test_devices.py",
    ),
    (SHIFT, "points.is_cuda or torch.compiler", "torch.compiler", "tests/test_devices.py"),
    (
        "rpe/callbacks/agreement.py",
        "len(set(found)) > 1",
        "len(set(found)) > 2",
        "tests/callbacks/test_agreement.py",
    ),
    (
        "rpe/sphere_packing/bound.py",
        "(1 - 1 / (groups - 1)) / 2\n    if dimension == 1",
        "(1 - 1 / groups) / 2\n    if dimension == 1",
        "tests/sphere_packing/test_bound.py",
    ),
    (
        "rpe/callbacks/weight_average.py",
        "((1 + updates) / (10 + updates)).clamp(max=self.decay)",
        "self.decay + 0 * updates",
        "tests/callbacks/test_weight_average.py",
    ),
    ("rpe/run/train.py", "trainer.precision_plugin.convert_module(task)", "pass", "tests/test_run.py"),
    (
        "rpe/segment/segmenter.py",
        "images.to(weight.device, weight.dtype)",
        "images.to(weight.device)",
        "tests/test_run.py",
    ),
]


def caught_by(tree: Path, fault: tuple[str, str, str, str]) -> str | None:
    """Return the first test that fails under the fault; None if all pass."""
    file, there, instead, tests = fault
    path = tree / file
    original = path.read_text()
    if original.count(there) < 1:
        raise SystemExit(f"{file} must hold {there!r}, which is missing. Correct the list of faults.")
    path.write_text(original.replace(there, instead, 1))
    try:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-m",
            "not slow",
            "--no-header",
            "-p",
            "no:cacheprovider",
            tests,
        ]
        environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, cwd=tree, capture_output=True, text=True, check=False, env=environment, timeout=300
        )
    finally:
        path.write_text(original)
    if done.returncode == 0:
        return None
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return found[1] if found else f"exit {done.returncode}"


def main() -> None:
    part, parts = (int(number) for number in (sys.argv[1] if sys.argv[1:] else "1/1").split("/"))
    faults = list(enumerate(FAULTS, start=1))[part - 1 :: parts]
    survived = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(
            ROOT,
            tree,
            ignore=shutil.ignore_patterns(
                ".venv", ".git", "outputs", "__pycache__", "*.egg-info", ".*_cache"
            ),
        )
        for number, fault in faults:
            test = caught_by(tree, fault)
            survived += test is None
            print(
                f"{number:2d} {fault[0]}: {fault[1].splitlines()[0].strip()[:60]!r} -> {test or 'SURVIVED'}",
                flush=True,
            )
    print(f"{len(faults) - survived} of {len(faults)} faults caught")
    raise SystemExit(int(survived > 0))


if __name__ == "__main__":
    main()
